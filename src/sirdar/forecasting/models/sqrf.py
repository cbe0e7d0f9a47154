# SPDX-License-Identifier: Apache-2.0
"""The Sparse Quantile Random Forest: one forest over the rows of all products, on sparse features of each."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from sirdar.errors import ArgumentError, require_positive_integer
from sirdar.forecasting import storage
from sirdar.forecasting.features import Features, as_features, sample
from sirdar.forecasting.forest import QuantileForest
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES, Forecast
from sirdar.predictive.forecast import require_levels

_CHUNK = 1024  # series


class SparseQuantileForest:
    def __init__(self, horizon, *, levels=DECILES, rows=200_000, trees=100, leaves=512, leaf_rows=20, row_share=.5, feature_share=.5, points=32, seed=0, threads=None, progress=None, guide="asinh", power=0.0, fresh=.03):
        self.horizon=horizon; self.levels=require_levels(levels); self.rows=rows; self.seed=seed; self.g=guide; self.power=power; self.fresh=fresh
        self.forest=QuantileForest(trees=trees,leaves=leaves,leaf_rows=leaf_rows,row_share=row_share,feature_share=feature_share,points=points,seed=seed,threads=threads)

    def fit(self, panel):
        self.features=Features.fit(panel)
        gen=np.random.default_rng(self.seed)
        n=self.rows*(4 if self.power else 1)
        s,o,st=sample(panel,self.horizon,n,gen,fresh=self.fresh)
        if self.power:
            from sirdar.forecasting import feature_kernels as k
            d=np.where(panel.observed,panel.target,np.float32(np.nan)).astype(np.float32)
            b=panel.indptr[:-1][s]
            sc=k.scales(d,b,b+o,np.array(self.features.shape[1]),self.features.reference)**self.power
            keep=gen.choice(len(s),min(self.rows,len(s)),replace=False,p=sc/sc.sum()); keep.sort()
            s,o,st=s[keep],o[keep],st[keep]
        r=self.features.rows(panel,s,o,st)
        y=r.target/r.scale
        guide={"none":None,"asinh":np.arcsinh(y),"rank":np.argsort(np.argsort(y,kind='stable'))/len(y),"log":np.log1p(np.maximum(y,0)*3)}[self.g]
        if self.g=="rank":
            u,inv,c=np.unique(y,return_inverse=True,return_counts=True); guide=((np.cumsum(c)-c/2)/len(y))[inv]
        self.forest.fit(r.matrix,y,guide=guide)
        self.counts=panel.counts
        return self

    def predict(self, panel):
        values=np.empty((len(panel),self.horizon,len(self.levels)),np.float32)
        for b in range(0,len(panel),_CHUNK):
            rows=np.arange(b,min(b+_CHUNK,len(panel)))
            step=np.broadcast_to(np.arange(1,self.horizon+1),(len(rows),self.horizon))
            r=self.features.rows(panel,rows,panel.history[rows],step)
            values[rows]=(self.forest.quantiles(r.matrix,self.levels)*r.scale[:,None]).reshape(len(rows),self.horizon,-1)
        return Forecast(panel.ids,panel.end,panel.frequency,self.levels,values,0.0 if self.counts else -np.inf,native=panel.native)

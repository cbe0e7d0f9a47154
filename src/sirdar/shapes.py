# SPDX-License-Identifier: Apache-2.0
"""The axis glossary: the commonest names in the shapes of this package.

========  ==============================================================================
batch     examples computed together
series    products (or whatever has a demand history); one row of a panel
time      steps of history, oldest first
horizon   steps of the future, the next one first
level     quantile levels, rising: 0.1, 0.2, ...
sample    draws from a distribution
channel   features of one step inside a network
origin    steps from which a window is forecast
step      periods, or rows of a ragged panel, one behind the other
lead      steps until an order arrives
row       lines of a table
========  ==============================================================================

Shapes are written with jaxtyping, ``Float[Tensor, "series horizon level"]``, and checked at run time under pytest.
"""

# SPDX-License-Identifier: Apache-2.0
"""Rules that order, one file each. The interface is `sirdar.inventory.policy.Policy`."""

# SPDX-License-Identifier: Apache-2.0
"""Three vision tasks and the blocks that their networks are made of."""

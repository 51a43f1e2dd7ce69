"""Search for the update scheme that gains most accuracy within a RAM and compute budget.

Lin et al., On-Device Training Under 256KB Memory, NeurIPS 2022, section 3.2: measure what each
parameter contributes, then find the set with the largest summed contribution that fits. Here the
contributions are measured with the device's code, and the exact memory plan decides what fits.
"""

"""CA-LIG: layer-wise integrated gradients at every depth, fused with class-specific attention gradients."""

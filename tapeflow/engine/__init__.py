"""What runs a tape: its program, its kernels' sweeps, one sample or a batch."""

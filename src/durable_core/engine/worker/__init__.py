"""The worker's side: runs are claimed, advanced by the kernel, and given up."""

"""Training runs, whatever is trained: the loop, its folder and checkpoints, restarts, several processes."""

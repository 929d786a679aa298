"""Training loops, each a page of its own, and what they share: averages of weights, run folders."""

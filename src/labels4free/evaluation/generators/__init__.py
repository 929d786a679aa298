"""How good a generator is: its images beside real ones, by features of a network that the figure names."""

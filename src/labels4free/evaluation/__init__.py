"""How good masks are beside true ones: pairs of files, the scores of a set, trivial baselines, the original's table."""

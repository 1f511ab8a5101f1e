"""What runs on a board: the seed's suites and example applications, and the images that name them."""

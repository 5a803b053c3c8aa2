"""On the path of every Python that the tests start."""

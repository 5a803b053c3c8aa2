"""What the tests share: fakes, servers, and ways to run mcpchat."""

"""This folder is on the path of every Python process that the tests start."""

"""Sign-in to OAuth providers such as Google, whose access tokens servers receive."""

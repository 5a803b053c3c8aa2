"""The screen and the keyboard: the live region, the prompt at the bottom, external programs."""

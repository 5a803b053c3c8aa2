"""Questions to the user: approvals, forms, sign-in."""

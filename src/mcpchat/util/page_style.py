"""The pages that mcpchat makes: light and dark, without scripts, nothing from outside."""

PAGE_STYLE = """
:root { color-scheme: light dark; --text: #1c1d20; --faint: #62656c; --page: #f5f6f7; --card: #fff; --line: #d9dce1;
  --done: #1a7f4b; --fail: #b42a2a; --code: #eff0f3; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e9eb; --faint: #9da1a9; --page: #16171a; --card: #202226;
  --line: #383b41; --done: #52c58b; --fail: #ef7a72; --code: #2a2d32; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 .75rem; } h2 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .5rem 0; }
"""


def html_page(*, title: str, about: str, body: str, style: str, images: bool = False) -> str:
    """A page that is complete in itself. All texts are HTML; ``style`` is added to the common look.

    Its policy forbids everything but styles, and with ``images`` those that are in the page.
    """
    policy = f"default-src 'none'; {'img-src data:; ' * images}style-src 'unsafe-inline'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
{PAGE_STYLE}
{style}
</style>
</head>
<body>
<header><h1>{title}</h1><p>{about}</p></header>
{body}
</body>
</html>
"""

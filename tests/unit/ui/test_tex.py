"""Formulas become Unicode where that is exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpchat.ui.markdown.render import parse_markdown
from mcpchat.ui.markdown.tex import format_tex


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("E = mc^2", "E = mc²"),
        (r"x_{ij}^{2} + \frac{a+b}{2}", "xᵢⱼ² + (a+b)/2"),
        (r"e^{-x^2/2}", "e^(−x²/2)"),
        (r"\sum_{i=1}^{n} i = \frac{n(n+1)}{2}", "∑ᵢ₌₁ⁿ i = (n(n+1))/2"),
        (r"\sqrt{x+1} \ne \sqrt[3]{y}", "√(x+1) ≠ ∛y"),
        (r"x \in \mathbb{R}^n, 90^\circ", "x ∈ ℝⁿ, 90°"),
        (r"\left( \text{if } f'(x) \to \infty \right)", "( if f′(x) → ∞ )"),
        (r"\frac12 \cdot 5\%", "1/2 · 5%"),
        (r"\frac{-b \pm \sqrt{b^2-4ac}}{2a}", "(−b ± √(b²−4ac))/(2a)"),
        ("H_2O", "H₂O"),
        ("x_B", "x_B"),
        (r"2\frac{1}{2}", "2(1/2)"),
        (r"\frac{1}{2}\frac{3}{4}", "(1/2)(3/4)"),
        (r"\frac{a}{bc} \dfrac{2\pi}{3}", "a/(bc) 2π/3"),
        (r"a/\frac{b}{c}", "a/(b/c)"),
        (r"\sqrt{2}3 \sqrt{2\pi} \sqrt{2}\pi", "(√2)3 √(2π) (√2)π"),
        ("x^{q}y x^{qy} x_{B}c", "x^(q)y x^(qy) x_(B)c"),
        (r"a\sin x + r\cos\theta + O(n\log n) + \log_2 n", "a sin x + r cos θ + O(n log n) + log₂ n"),
        (r"\left. x^2 \right|_0^1", "x² |₀¹"),
        (r"\text{learning\_rate a^b well-known}", "learning_rate a^b well-known"),
    ],
)
def test_a_formula_becomes_a_line_of_text(formula: str, text: str) -> None:
    assert format_tex(formula) == text


@pytest.mark.parametrize(
    "formula",
    [r"\begin{matrix}1&2\end{matrix}", r"\hat{x}", r"\nosuch", r"\binom{n}{k}", r"\sqrt[5]{x}", "x^", "x^{}", r"\today", r"\textfrac", r"\verb", "x_i_j", "{x", "a & b", r"a \\ b", " "],
)  # fmt: skip
def test_what_a_line_cannot_say_stays_tex(formula: str) -> None:
    assert format_tex(formula) is None


@given(st.text(alphabet=r"\{}[]^_&$%~ab1 +-()'" + "\n", max_size=40))
def test_any_formula_is_answered(formula: str) -> None:
    text = format_tex(formula)
    assert text is None or text.strip()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        *(
            (text, text)
            for text in (
                "${HOME}/.config/${NAME}",
                "$(PREFIX)/bin:$(PATH)",
                "$HOME/${X}",
                "${a}-${b}",
                "$_GET/$_POST",
                "US$/EUR and A$/EUR",
                "The plan is $10/mo (US$).",
                "Luigi's ($$), Mario's ($$$)",
                "Prices from $$ to $$$.",
                "kill $$; echo $$",
                "https://x.example/$a=b$/c",
                "$FOO_BAR$ and $speed = d/t$",
            )
        ),
        ("use \\(and/or\\) \\[--config=FILE\\]", "use (and/or) [--config=FILE]"),
        ("The variable $x is checked by `^a+$`.", "The variable $x is checked by ^a+$."),
        ("$3 \\times 4 = 12$, $a < b$, \\(E = m v^2 / 2\\)", "3 × 4 = 12, a < b, E = m v² / 2"),
        ("$E = mc^2$ and \\(x_1\\) and \\[ a^2 \\]", "E = mc² and x₁ and a²"),
        ("$$\nx^2 +\n\\alpha\n$$", "x² + α"),
        ("from $5 to $6, 5$ or 6$, $10/$20", "from $5 to $6, 5$ or 6$, $10/$20"),
        ("from $5 to-$ or $1,000.50 = 2$, but $2x = 3$", "from $5 to-$ or $1,000.50 = 2$, but 2x = 3"),
        ("$HOME/$USER $name$ $A:$B $5$", "$HOME/$USER $name$ $A:$B $5$"),
        ("a \\[link\\] \\[--force\\] \\$5 \\(not-x\\)", "a [link] [--force] $5 (not-x)"),
        ("$\\hat{x}*a*b$", "$\\hat{x}*a*b$"),
        ("$x = 1$a and $ x = 1 $", "$x = 1$a and $ x = 1 $"),
    ],
)
def test_prices_variables_and_brackets_are_no_formulas(source: str, text: str) -> None:
    (_, inline, _) = parse_markdown(source)
    assert "".join(child.content for child in inline.children or ()) == text

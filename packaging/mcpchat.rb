# A Homebrew formula. The release workflow fills in URL and SHA256 of the source distribution.
class Mcpchat < Formula
  include Language::Python::Virtualenv

  desc "Talk to your MCP servers from the terminal and from scripts"
  homepage "@HOMEPAGE@"
  url "@URL@"
  sha256 "@SHA256@"
  license "MIT"

  depends_on "python@3.13"

  def install
    virtualenv_create(libexec, "python3.13", without_pip: false)
    system libexec/"bin/python", "-m", "pip", "install", "--no-cache-dir", buildpath
    bin.install_symlink libexec/"bin/mcpchat"
    man1.install "docs/mcpchat.1"
    generate_completions_from_executable(bin/"mcpchat", "completion", shells: [:bash, :zsh, :fish])
  end

  test do
    assert_match "7006652", shell_output("#{bin}/mcpchat ask --model demo 'What is 1234 * 5678?'")
  end
end

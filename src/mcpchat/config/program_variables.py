"""Environment variables that change which code a program runs, or which addresses it connects to."""

import re
from typing import Literal

Effect = Literal["", "code", "network"]

_CODE = re.compile(
    r"(LD|DYLD|NODE|NPM_CONFIG|GIT|CARGO|UV|PIP|BUNDLE|GEM|DENO|BUN|DOTNET|COR|CORECLR|OPENSSL|MALLOC|BASH_FUNC)_.*"
    r"|PYTHON\w*|PERL5?(LIB|OPT|DB)|RUBY(LIB|OPT)|LUA_(C?PATH|INIT)\w*|CLASSPATH|_JAVA_OPTIONS|(JDK_)?JAVA_\w+|MAVEN_OPTS|GOFLAGS"
    r"|GCONV_PATH|GLIBC_TUNABLES|BASH_ENV|ENV|ZDOTDIR|PATH|PATHEXT|COMSPEC|SHELL|IFS|PROMPT_COMMAND|PS4|HOME|USERPROFILE"
    r"|XDG_(CONFIG|DATA)_(HOME|DIRS)|EDITOR|VISUAL|PAGER|BROWSER|SSH_ASKPASS"
)
_NETWORK = re.compile(
    r"((HTTPS?|ALL|FTP|NO|WSS?|SOCKS\d?)_PROXY|\w+_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS"
    r"|NODE_TLS_REJECT_UNAUTHORIZED|\w*_(API_)?(URL|URI|HOST|ENDPOINT|BASE)|HOSTALIASES|RESOLV_\w+|LOCALDOMAIN|SSLKEYLOGFILE)"
)


def effect_of(variable: str) -> Effect:
    """What setting the variable changes about a program: which code it runs, where it connects, or neither."""
    name = variable.upper()
    if _NETWORK.fullmatch(name):
        return "network"
    return "code" if _CODE.fullmatch(name) else ""

"""The commands as completion sees them. Written by scripts/generate.py.

By path: the arguments (name, whether many), the options (what it does, whether it takes a value, its
parameter, whether it may come again), the subcommands (what each does).
"""

# fmt: off
# ruff: noqa: E501
Option = tuple[str, bool, str, bool]
COMMANDS: dict[str, tuple[list[tuple[str, bool]], dict[str, Option], dict[str, str]]] = {
    "": (
        [],
        {'--model': ('The model; "demo" needs no key and no network', True, 'model', False), '-m': ('The model; "demo" needs no key and no network', True, 'model', False), '--agent': ('The agent, a table of the config', True, 'agent', False), '-a': ('The agent, a table of the config', True, 'agent', False), '--allow': ("Run these tools without a question, as in 'files.write(path=/tmp/*)'", True, 'allow', True), '--deny': ('Never run these tools', True, 'deny', True), '--yes': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '-y': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '--max-steps': ('Rounds of tool calls in one turn', True, 'max_steps', False), '--max-tokens': ('Tokens of the run, in and out: stop before the next request', True, 'max_tokens', False), '--max-cost': ('US dollars of the run: stop before the next request', True, 'max_cost', False), '--continue': ('Go on with the latest thread', False, 'go_on', False), '-c': ('Go on with the latest thread', False, 'go_on', False), '--thread': ('Go on with this thread; with @NUMBER, after that message', True, 'thread', False), '--title': ('What the new thread is called', True, 'title', False), '--no-save': ('Keep nothing of what is said', False, 'no_save', False), '--stats': ('Say what each turn took: tokens, money, time', False, 'stats', False), '--plain': ('Draw nothing over, say who speaks: for screen readers and logs', False, 'plain', False), '--config': ('The config file', True, 'config', False), '--refresh': ('Ask every server anew what it offers', False, 'refresh', False), '--no-color': ('No colour, as with NO_COLOR', False, 'no_color', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--version': ('Show the version', False, 'version', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {'chat': 'Chat at the terminal; mcpchat alone does the same', 'ask': 'Ask once: the answer goes to stdout, everything else to stderr', 'models': 'List the models that can be chosen: those that the config names, and what the..', 'call': 'Call one tool, without a model', 'read': "Read a server's resource; without one, list them all", 'prompt': 'Show the messages that a server makes of one of its prompts; without one,..', 'tools': 'List the tools of the configured servers', 'batch': 'Run many requests, one a line, and write one result a line', 'schema': 'Print the JSON Schema of what is written and read', 'completion': 'Print what a shell needs to complete mcpchat: commands, options, names of..', 'servers': 'Start each configured server and show how it is: state, transport, tools,..', 'auth': 'Sign in to Google, other providers and remote servers; see who is signed in;..', 'threads': 'List the threads that are kept, the latest first', 'agents': 'List the agents of the config', 'config': 'Show, make and check the config file', 'trust': "Show what the project's .mcpchat.toml, in this folder or above, would run and..", 'approvals': 'List the tools that you said "always" to when you were asked'},
    ),
    "chat": (
        [],
        {'--model': ('The model; "demo" needs no key and no network', True, 'model', False), '-m': ('The model; "demo" needs no key and no network', True, 'model', False), '--agent': ('The agent, a table of the config', True, 'agent', False), '-a': ('The agent, a table of the config', True, 'agent', False), '--allow': ("Run these tools without a question, as in 'files.write(path=/tmp/*)'", True, 'allow', True), '--deny': ('Never run these tools', True, 'deny', True), '--yes': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '-y': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '--max-steps': ('Rounds of tool calls in one turn', True, 'max_steps', False), '--max-tokens': ('Tokens of the run, in and out: stop before the next request', True, 'max_tokens', False), '--max-cost': ('US dollars of the run: stop before the next request', True, 'max_cost', False), '--continue': ('Go on with the latest thread', False, 'go_on', False), '-c': ('Go on with the latest thread', False, 'go_on', False), '--thread': ('Go on with this thread; with @NUMBER, after that message', True, 'thread', False), '--title': ('What the new thread is called', True, 'title', False), '--no-save': ('Keep nothing of what is said', False, 'no_save', False), '--stats': ('Say what each turn took: tokens, money, time', False, 'stats', False), '--plain': ('Draw nothing over, say who speaks: for screen readers and logs', False, 'plain', False), '--config': ('The config file', True, 'config', False), '--refresh': ('Ask every server anew what it offers', False, 'refresh', False), '--no-color': ('No colour, as with NO_COLOR', False, 'no_color', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "ask": (
        [('words', True)],
        {'--model': ('The model; "demo" needs no key and no network', True, 'model', False), '-m': ('The model; "demo" needs no key and no network', True, 'model', False), '--agent': ('The agent, a table of the config', True, 'agent', False), '-a': ('The agent, a table of the config', True, 'agent', False), '--allow': ("Run these tools without a question, as in 'files.write(path=/tmp/*)'", True, 'allow', True), '--deny': ('Never run these tools', True, 'deny', True), '--yes': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '-y': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '--output': ('text (rendered at a terminal), markdown (as the model wrote it), json or jsonl', True, 'output', False), '-o': ('text (rendered at a terminal), markdown (as the model wrote it), json or jsonl', True, 'output', False), '--template': ('Ask by a template; KEY=VALUE words are values of its variables', True, 'template', False), '-t': ('Ask by a template; KEY=VALUE words are values of its variables', True, 'template', False), '--attach': ('Send a text, an image or a PDF along; - is stdin', True, 'attach', True), '--schema': ('A JSON Schema that the answer must fit, - is stdin; stdout is that JSON', True, 'schema', False), '--input-format': ('text, or jsonl: messages and answers come in as lines', True, 'input_format', False), '--max-steps': ('Rounds of tool calls in one turn', True, 'max_steps', False), '--max-tokens': ('Tokens of the run, in and out: stop before the next request', True, 'max_tokens', False), '--max-cost': ('US dollars of the run: stop before the next request', True, 'max_cost', False), '--timeout': ('Stop after so long, with exit code 7', True, 'timeout', False), '--continue': ('Go on with the latest thread', False, 'go_on', False), '-c': ('Go on with the latest thread', False, 'go_on', False), '--thread': ('Go on with this thread; with @NUMBER, after that message', True, 'thread', False), '--title': ('What the new thread is called', True, 'title', False), '--no-save': ('Keep nothing of what is said', False, 'no_save', False), '--stats': ('Say what each turn took: tokens, money, time', False, 'stats', False), '--quiet': ('No tool lines and notices, only warnings', False, 'quiet', False), '-q': ('No tool lines and notices, only warnings', False, 'quiet', False), '--verbose': ('Explain on stderr: the model, the servers, who decided on each call', False, 'verbose', False), '-v': ('Explain on stderr: the model, the servers, who decided on each call', False, 'verbose', False), '--config': ('The config file', True, 'config', False), '--refresh': ('Ask every server anew what it offers', False, 'refresh', False), '--no-color': ('No colour, as with NO_COLOR', False, 'no_color', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "models": (
        [('table', False)],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "call": (
        [('tool', False), ('pairs', True)],
        {'--json': ('The arguments as one JSON object; also @FILE or -', True, 'arguments', False), '--agent': ('The agent, a table of the config', True, 'agent', False), '-a': ('The agent, a table of the config', True, 'agent', False), '--allow': ("Run these tools without a question, as in 'files.write(path=/tmp/*)'", True, 'allow', True), '--deny': ('Never run these tools', True, 'deny', True), '--yes': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '-y': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '--output': ('text, json, or raw: the bytes as they came', True, 'output', False), '-o': ('text, json, or raw: the bytes as they came', True, 'output', False), '--file': ('Write what comes there, as it came; images too', True, 'file', False), '-f': ('Write what comes there, as it came; images too', True, 'file', False), '--timeout': ('Stop after so long, with exit code 7', True, 'timeout', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "read": (
        [('resource', False)],
        {'--output': ('text, json, or raw: the bytes as they came', True, 'output', False), '-o': ('text, json, or raw: the bytes as they came', True, 'output', False), '--file': ('Write what comes there, as it came; images too', True, 'file', False), '-f': ('Write what comes there, as it came; images too', True, 'file', False), '--timeout': ('Stop after so long, with exit code 7', True, 'timeout', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "prompt": (
        [('name', False), ('pairs', True)],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "tools": (
        [('server', False)],
        {'--format': ('table, json or openai', True, 'form', False), '--output': ('table, json or openai', True, 'form', False), '-o': ('table, json or openai', True, 'form', False), '--refresh': ('Ask every server anew what it offers', False, 'refresh', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "batch": (
        [('source', False)],
        {'--file': ('The results, for your eyes alone', True, 'file', False), '-f': ('The results, for your eyes alone', True, 'file', False), '--model': ('The model; "demo" needs no key and no network', True, 'model', False), '-m': ('The model; "demo" needs no key and no network', True, 'model', False), '--agent': ('The agent, a table of the config', True, 'agent', False), '-a': ('The agent, a table of the config', True, 'agent', False), '--schema': ('A JSON Schema that the answer must fit, - is stdin; stdout is that JSON', True, 'schema', False), '--concurrency': ('Requests at a time', True, 'concurrency', False), '-j': ('Requests at a time', True, 'concurrency', False), '--ordered': ('Results in the order of the requests, not as they finish', False, 'ordered', False), '--resume': ('Go on with RESULTS of an earlier run: what has a result is not run again', False, 'resume', False), '--retry-failed': ('With --resume: run those again that failed', False, 'retry_failed', False), '--shard': ('Only every N-th line, from the K-th on', True, 'shard', False), '--retries': ('Tries more of what fails in passing', True, 'retries', False), '--timeout': ('The longest for one request', True, 'timeout', False), '--no-tools': ('Offer the model no tools', False, 'no_tools', False), '--provider-batch': ('Have the provider run it, without tools: run, or submit, wait and fetch one by one', True, 'provider_batch', False), '--poll': ('How often the provider is asked', True, 'poll', False), '--allow': ("Run these tools without a question, as in 'files.write(path=/tmp/*)'", True, 'allow', True), '--deny': ('Never run these tools', True, 'deny', True), '--yes': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '-y': ('Run every tool that no rule denies; agree to what servers ask', False, 'yes', False), '--max-steps': ('Rounds of tool calls in one turn', True, 'max_steps', False), '--max-tokens': ('Tokens of the run, in and out: stop before the next request', True, 'max_tokens', False), '--max-cost': ('US dollars of the run: stop before the next request', True, 'max_cost', False), '--quiet': ('No tool lines and notices, only warnings', False, 'quiet', False), '-q': ('No tool lines and notices, only warnings', False, 'quiet', False), '--config': ('The config file', True, 'config', False), '--no-color': ('No colour, as with NO_COLOR', False, 'no_color', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "schema": (
        [('name', False)],
        {'--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "completion": (
        [('shell', False)],
        {'--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "servers": (
        [],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {'list': 'Start each configured server and show how it is, as mcpchat servers does', 'show': 'Start one server and show what it says of itself: protocol, capabilities,..', 'logs': 'Show what a server wrote to stderr and logged, over all its runs', 'add': 'Write a server into the config file; comments and order there are kept', 'remove': 'Take a server out of the config file', 'enable': 'Switch a server on', 'disable': 'Switch a server off, and keep its entry'},
    ),
    "servers list": (
        [],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "servers show": (
        [('name', False)],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "servers logs": (
        [('name', False)],
        {'--lines': ('The last N lines; 0 is all', True, 'lines', False), '-n': ('The last N lines; 0 is all', True, 'lines', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "servers add": (
        [('name', False), ('target', True)],
        {'--builtin': ('A server that comes with mcpchat: calculator, drive, gmail, sheets', True, 'builtin', False), '--read-only': ('Of a bundled server: only the tools that change nothing', False, 'read_only', False), '--folder': ('A folder it may save files into and send from', True, 'folder', True), '--account': ('Whose login it gets: an address, or its name', True, 'account', False), '--env': ('A variable for the program', True, 'env', True), '--env-pass': ('A variable of yours it may see', True, 'env_pass', True), '--header': ('An HTTP header', True, 'header', True), '--cwd': ('The folder it runs in', True, 'cwd', False), '--config': ('The config file', True, 'config', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "servers remove": (
        [('name', False)],
        {'--config': ('The config file', True, 'config', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "servers enable": (
        [('name', False)],
        {'--config': ('The config file', True, 'config', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "servers disable": (
        [('name', False)],
        {'--config': ('The config file', True, 'config', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "auth": (
        [],
        {'--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {'login': 'Sign in once, in a browser: the login is kept in the OS keyring, and renewed..', 'status': 'Show the logins: whose, what they allow, where they are kept, how long they..', 'logout': 'Sign out: the login is revoked at the provider, then removed here whatever..'},
    ),
    "auth login": (
        [('name', False)],
        {'--account': ('An address, or a name of your own for the account', True, 'account', False), '--store': ('keyring, or file: a plain file, NOT encrypted', True, 'store', False), '--scope': ('Ask for this too', True, 'scope', True), '--port': ("The callback's port", True, 'port', False), '--no-browser': ('Only show the address; start no browser', False, 'no_browser', False), '--timeout': ('How long to wait for you', True, 'timeout', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "auth status": (
        [],
        {'--check': ('Ask each provider and server whether it still holds', False, 'check', False), '--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "auth logout": (
        [('name', False)],
        {'--account': ('An address, or a name of your own for the account', True, 'account', False), '--all': ('All its accounts', False, 'every', False), '--local': ('Only remove it here; do not tell the provider', False, 'local', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads": (
        [],
        {'--limit': ('How many at most', True, 'limit', False), '-n': ('How many at most', True, 'limit', False), '--agent': ('Only with this agent', True, 'agent', False), '-a': ('Only with this agent', True, 'agent', False), '--tool': ('Only where this tool was used', True, 'tool', True), '--since': ('Only from then on: a date, yesterday, 7d', True, 'since', False), '--until': ('Only until then', True, 'until', False), '--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {'list': 'List them, as mcpchat threads does', 'search': 'Search what was said, called and found: the newest first, with the places', 'show': 'Show a thread: its current branch, who decided on each call, what each answer..', 'fork': 'Begin a new thread with what another has; its id goes to stdout', 'rename': 'Give a thread another title', 'export': 'Write threads for other programs, and for people', 'import': "Add threads: mcpchat's JSON, conversations.json of ChatGPT and of Claude, llm..", 'delete': 'Delete threads, with all their branches and what only they held', 'gc': 'Check the database, throw away what nothing uses, and make it small again'},
    ),
    "threads list": (
        [],
        {'--limit': ('How many at most', True, 'limit', False), '-n': ('How many at most', True, 'limit', False), '--agent': ('Only with this agent', True, 'agent', False), '-a': ('Only with this agent', True, 'agent', False), '--tool': ('Only where this tool was used', True, 'tool', True), '--since': ('Only from then on: a date, yesterday, 7d', True, 'since', False), '--until': ('Only until then', True, 'until', False), '--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads search": (
        [('words', True)],
        {'--limit': ('How many at most', True, 'limit', False), '-n': ('How many at most', True, 'limit', False), '--agent': ('Only with this agent', True, 'agent', False), '-a': ('Only with this agent', True, 'agent', False), '--tool': ('Only where this tool was used', True, 'tool', True), '--since': ('Only from then on: a date, yesterday, 7d', True, 'since', False), '--until': ('Only until then', True, 'until', False), '--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads show": (
        [('name', False)],
        {'--tree': ('Its branches instead of its messages', False, 'tree', False), '--output': ('text, markdown, json or jsonl', True, 'output', False), '-o': ('text, markdown, json or jsonl', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads fork": (
        [('name', False)],
        {'--at': ('Up to this message, of whatever branch', True, 'at', False), '--title': ('What the fork is called', True, 'title', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads rename": (
        [('name', False), ('title', False)],
        {'--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads export": (
        [('names', True)],
        {'--all': ('All of them; with json, one a line', False, 'everything', False), '--output': ('markdown, html, json (all branches) or jsonl (events)', True, 'output', False), '-o': ('markdown, html, json (all branches) or jsonl (events)', True, 'output', False), '--file': ('Write it there, for your eyes alone', True, 'file', False), '-f': ('Write it there, for your eyes alone', True, 'file', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads import": (
        [('files', True)],
        {'--from': ('All threads of another database: a file, or postgresql://..', True, 'place', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads delete": (
        [('names', True)],
        {'--yes': ('Delete without asking', False, 'yes', False), '-y': ('Delete without asking', False, 'yes', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "threads gc": (
        [],
        {'--older-than': ('Delete threads that did not change since: 90d, a date', True, 'older_than', False), '--yes': ('Delete without asking', False, 'yes', False), '-y': ('Delete without asking', False, 'yes', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "agents": (
        [],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {'list': 'List them, as mcpchat agents does', 'show': 'Show an agent as it would be used now: with all variables of its instructions..', 'new': 'Write a new agent into the config; everything can be changed there afterwards'},
    ),
    "agents list": (
        [],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "agents show": (
        [('name', False)],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "agents new": (
        [('name', False)],
        {'--description': ('What it is for', True, 'description', False), '-d': ('What it is for', True, 'description', False), '--instructions': ('What its model is told; - is stdin', True, 'instructions', False), '-i': ('What its model is told; - is stdin', True, 'instructions', False), '--instructions-file': ('A file with them, read at each start', True, 'instructions_file', False), '--model': ('Its model', True, 'model', False), '-m': ('Its model', True, 'model', False), '--server': ('A server it uses', True, 'server', True), '-s': ('A server it uses', True, 'server', True), '--tool': ('Tools that it is offered', True, 'tool', True), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "config": (
        [],
        {'--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {'path': 'Print where the config file is, or would be', 'show': 'Print the config in effect, defaults included, as JSON', 'init': 'Write a commented config file to start from, and its JSON Schema beside it..', 'validate': 'Check the config file; every problem is named with its line', 'schema': 'Print the JSON Schema of the config file, for editors'},
    ),
    "config path": (
        [],
        {'--config': ('The config file', True, 'config', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "config show": (
        [],
        {'--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "config init": (
        [],
        {'--config': ('The config file', True, 'config', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "config validate": (
        [],
        {'--config': ('The config file', True, 'config', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "config schema": (
        [],
        {'--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "trust": (
        [],
        {'--yes': ('Agree to all of it, without a question', False, 'yes', False), '-y': ('Agree to all of it, without a question', False, 'yes', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {'show': 'List the project files that are trusted', 'revoke': 'Trust a project file no longer', 'review': "Show what of a server's tools and instructions changed since you agreed to.."},
    ),
    "trust show": (
        [],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "trust revoke": (
        [('path', False)],
        {'--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "trust review": (
        [('server', False)],
        {'--yes': ('Agree to all of it, without a question', False, 'yes', False), '-y': ('Agree to all of it, without a question', False, 'yes', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "approvals": (
        [],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {'list': 'List them, as mcpchat approvals does', 'revoke': 'Have these tools ask again'},
    ),
    "approvals list": (
        [],
        {'--output': ('text or json', True, 'output', False), '-o': ('text or json', True, 'output', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
    "approvals revoke": (
        [('tools', True)],
        {'--all': ('All of them', False, 'everything', False), '--config': ('The config file', True, 'config', False), '--debug': ("Show tracebacks and the SDKs' logs", False, 'debug', False), '--help': ('Show the help', False, 'help', False), '-h': ('Show the help', False, 'help', False)},
        {},
    ),
}

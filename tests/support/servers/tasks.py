"""A server that runs its tools as tasks. Usage: tasks.py modern|legacy [TTL in milliseconds]"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.support.task_logic import TaskLogic

logic = TaskLogic(sys.argv[1], ttl=int(sys.argv[2]) if sys.argv[2:] else None)
for line in sys.stdin:
    for message in logic.handle(json.loads(line)):
        print(json.dumps(message), flush=True)

"""The chat template's arguments, the same in every call by day and by night: what is learned is
what is scored and generated.

Nemotron 3's template leaves room for thoughts unless it is told not to, and an answer without any
follows another prompt then.
"""

ARGUMENTS = {"enable_thinking": False}

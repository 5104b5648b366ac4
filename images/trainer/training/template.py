"""The chat template's arguments, the same in every call by day and by night, so that training,
scoring and generation use the same prompt.

Nemotron 3's template leaves room for thoughts unless told not to; an answer without thoughts would
then follow another prompt.
"""

ARGUMENTS = {"enable_thinking": False}

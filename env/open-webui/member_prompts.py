"""
title: No system prompts of members' own
author: dual-use-spark
version: 1
"""

# Open WebUI 0.12.4 only hides the fields for system prompts from members without the permission
# chat.system_prompt (MEMBER_CONTROLS=false): it takes one that a program sends, and that of a
# folder, which no permission covers (routers/folders.py). This filter drops both. The assistant's
# own prompt and the passages are added after it (utils/middleware.py, process_chat_payload).

OWN = ("system", "developer")  # the roles of messages that are no part of the conversation


async def may_write_prompts(user):
    from open_webui.models.config import Config
    from open_webui.utils.access_control import has_permission

    usual = await Config.get("user.permissions")
    return user["role"] == "admin" or await has_permission(user["id"], "chat.system_prompt", usual)


class Filter:
    async def inlet(self, body, __user__=None):
        spoken = [one for one in body.get("messages", []) if one.get("role") not in OWN]
        if len(spoken) < len(body.get("messages", [])) and not await may_write_prompts(__user__):
            body["messages"] = spoken
        return body

"""What providers of mail report by webhook. ``docs/providers.md`` says how to add one."""

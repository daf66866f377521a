"""The commands of `python -m service` for those who use a Headway, not run one."""

"""The strategy ``lr``: one model of learning rates and schedules decides what is begun, paused and gone on with."""

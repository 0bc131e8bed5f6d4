"""The exercises of Act VI. `tt_core.course.exercises` says what an exercise is."""

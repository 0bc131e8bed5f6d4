"""The exercises of Act I, one file for each module. `tt_core.course.exercises` says what an exercise is."""

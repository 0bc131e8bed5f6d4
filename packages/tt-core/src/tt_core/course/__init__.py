"""The course: a learner's workspace, exercises, checks and progress. It is not a module of the journey.

Read `exercises` for what an exercise is, `blanks` for how a file of the framework becomes one, `folder` for the
workspace, `finder` for how the learner's file takes the framework's place, and `judge` for how it is checked.
"""

"""The one exception for what a person can mend."""


class InputError(ValueError):
    """Something that was given is wrong: a parameter, a file, a folder, a permission.

    The message says what was received, what is allowed and what to do. Stages print it as one line
    and exit with 1; any other exception is a defect of this project and keeps its traceback.
    """

"""Exceptions of mpnnp. Each also inherits from the matching builtin, so `except ValueError` works too."""


class MpnnpError(Exception):
    """Base class of every error that mpnnp raises on purpose;
    the command line prints its message without a traceback.
    """

    exit_status = 1
    told_by: int | None = None  # the only rank that tells it, where every rank has it


class ConfigError(MpnnpError, ValueError):
    """A key of the configuration or a command-line argument is wrong:
    names key, value, what is allowed, and the file.
    """

    exit_status = 2


class DataError(MpnnpError, ValueError):
    """A data or potential file is wrong: names file, line or structure,
    what was found and what is allowed.
    """

    exit_status = 2


class CheckpointError(MpnnpError, RuntimeError):
    """A checkpoint cannot be read, is damaged, or does not fit the run."""

    exit_status = 2


class FolderError(MpnnpError, FileExistsError):
    """The folder of a run is in use, or holds a run that would be overwritten."""

    exit_status = 2


class DamagedError(CheckpointError):
    """A checkpoint is not as it was written, or not there: the one before it may be."""


class OutputError(MpnnpError, OSError):
    """A result cannot be written: names the file and what the operating system says."""


class Interrupted(MpnnpError):
    """A signal, or the end of the batch job's time, ended the run; it can be resumed."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h: try again


class LaunchError(MpnnpError, RuntimeError):
    """What a command stands on is missing or does not fit: launcher and MPI library, LAMMPS, a compiler."""

    exit_status = 2


class TrainingError(MpnnpError, ArithmeticError):
    """Numbers went wrong during training: names the update, the label and the likely cause."""


class DynamicsError(MpnnpError, ArithmeticError):
    """A simulation cannot go on: the system has exploded, leaves the range of training too often, or has come
    to a frame that is not known.
    """


class CheckFailed(MpnnpError, AssertionError):
    """What a command was asked to check does not hold."""

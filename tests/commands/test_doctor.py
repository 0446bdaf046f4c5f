"""`mpnnp doctor --compile`: what is compiled ahead."""

from mpi4py import MPI

from mpnnp.commands.doctor import compile_ahead
from mpnnp.model.label_kinds import KINDS
from mpnnp.progress import Silent
from mpnnp.simulation import warm_up as simulation
from mpnnp.training import warm_up as training


def test_compiling_ahead_takes_every_kind_of_label_and_simulations(monkeypatch):
    calls = []

    def note(functions, part, comm, log):
        calls.extend(functions)

    monkeypatch.setattr(training, "compile_by_running", note)
    monkeypatch.setattr(simulation, "compile_by_running", note)
    compile_ahead(MPI.COMM_SELF, Silent())
    observed = {call.args[0] for call in calls if hasattr(call, "args")}
    built_in = {
        k for k, kind in enumerate(KINDS.values()) if kind.rows.__module__.startswith("mpnnp.kernels")
    }
    by_filter = {0}  # rows of energies are what the filter is compiled with
    assert observed | by_filter == built_in
    assert simulation._run_simulation in calls
    assert {training._run_functions, training._run_filter, training._run_evaluation} <= set(calls)

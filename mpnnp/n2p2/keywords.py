"""Every keyword of an input.nn of n2p2 and of RuNNer, and every tool of n2p2:
what it is here, or why it has no meaning here.

n2p2: src/libnnp/Settings.cpp and the manual (keywords of 2G and 4G potentials); RuNNer: its readkeywords.f90
and the 1.2 manual.
"""

import difflib
from dataclasses import dataclass

USED, IDLE, CHARGE, REFUSED = "used", "idle", "charge", "refused"
N2P2, RUNNER, BOTH = "n2p2", "RuNNer", "n2p2, RuNNer"


@dataclass(frozen=True)
class Keyword:
    """One keyword of input.nn.

    kind     used: `meaning` is a key of the configuration, or says what follows from it; idle: `meaning` is
             the reason why nothing does; charge: of potentials with charges, without effect in one that has
             none; refused: `meaning` is what this program cannot do
    aliases  other names of the same keyword
    """

    name: str
    kind: str
    program: str
    meaning: str
    aliases: tuple[str, ...] = ()


FUNCTIONS = "symmetry_functions.input_nn"
OWN_FILES = (
    "written otherwise: learning-curve.csv, parity.png, accuracy.json, best.h5; "
    "`mpnnp evaluate --predictions` for single values"
)
ALWAYS = "always so"
FASTER = "a matter of speed or memory that this program settles by itself"
ANALYSIS = "an analysis of the data, not of the training: `mpnnp info`, `mpnnp evaluate`"
ONE_ORDER = "the labels of an epoch are always drawn at random from all structures (schedule.selection)"
FILTER = "the Kalman filter observes single labels: no damping, noise or grouping of errors is needed"
DATA = "the data are taken as they are: `mpnnp info` warns of odd structures, `mpnnp select` makes subsets"
MEMORY = "the covariance is part of every checkpoint; --resume continues with it"
TEXTS = "files are read and written in their usual form"
CHARGES = "part of potentials with charges (3G, 4G)"

TABLE = (
    # the potential
    Keyword("number_of_elements", USED, BOTH, f"{FUNCTIONS}, network"),
    Keyword("elements", USED, BOTH, f"{FUNCTIONS}, network"),
    Keyword("atom_energy", USED, BOTH,
            "network.atomic_energies (eV); in RuNNer's files only with remove_atom_energies"),
    Keyword("remove_atom_energies", USED, RUNNER, "network.atomic_energies"),
    Keyword("use_atom_energies", IDLE, RUNNER, "energies of single atoms in the data are not fitted"),
    Keyword("cutoff_type", USED, BOTH, FUNCTIONS),
    Keyword("cutoff_alpha", USED, RUNNER, f"{FUNCTIONS} (inner radius of the cutoff function)"),
    Keyword("symfunction_short", USED, BOTH, FUNCTIONS, ("symfunction", "symfunction_short_atomic")),
    Keyword("global_symfunction_short", USED, RUNNER,
            f"{FUNCTIONS} (of every element, for every neighbour)", ("global_symfunction_short_atomic",)),
    Keyword("element_symfunction_short", USED, RUNNER,
            f"{FUNCTIONS} (of one element, for every neighbour)", ("element_symfunction_short_atomic",)),
    Keyword("scale_symmetry_functions", USED, BOTH, f"{FUNCTIONS} (scaling min-max, or min-max-center)"),
    Keyword("center_symmetry_functions", USED, BOTH, f"{FUNCTIONS} (scaling center, or min-max-center)"),
    Keyword("scale_symmetry_functions_sigma", USED, N2P2, f"{FUNCTIONS} (scaling sigma)"),
    Keyword("scale_min_short", USED, BOTH, f"{FUNCTIONS} (scale_min)", ("scale_min_short_atomic",)),
    Keyword("scale_max_short", USED, BOTH, f"{FUNCTIONS} (scale_max)", ("scale_max_short_atomic",)),
    Keyword("global_hidden_layers_short", USED, BOTH,
            "network.hidden", ("global_hidden_layers_short_atomic",)),
    Keyword("global_nodes_short", USED, BOTH, "network.hidden", ("global_nodes_short_atomic",)),
    Keyword("global_activation_short", USED, BOTH, "network.activation", ("global_activation_short_atomic",)),
    Keyword("element_hidden_layers_short", USED, BOTH,
            "network.elements", ("element_hidden_layers_short_atomic",)),
    Keyword("element_nodes_short", USED, BOTH, "network.elements", ("element_nodes_short_atomic",)),
    Keyword("element_activation_short", USED, BOTH, "network.elements", ("element_activation_short_atomic",)),
    Keyword("normalize_nodes", USED, BOTH, "network.normalize_nodes"),
    Keyword("mean_energy", USED, N2P2, "network.mean_energy (eV per atom)"),
    Keyword("conv_energy", USED, N2P2, "network.energy_scale = 1 Hartree / conv_energy"),
    Keyword("conv_length", USED, N2P2, "network.force_scale = 1 Hartree/Bohr conv_length / conv_energy"),
    Keyword("normalize_data_set", USED, N2P2, "network.normalize; input.nn is not rewritten"),
    Keyword("nnp_type", USED, BOTH,
            "2G-HDNNP only, potentials with charges (3G, 4G) are not read",
            ("nn_type", "nnp_gen", "nnp_generation", "nnp_type_gen")),
    Keyword("nn_type_short", USED, RUNNER, "1 (atomic nets) only"),
    Keyword("use_short_nn", IDLE, RUNNER, ALWAYS),
    Keyword("runner_mode", IDLE, RUNNER, "symmetry functions, training and prediction are commands here"),
    # data and run
    Keyword("random_seed", USED, BOTH, "run.seed"),
    Keyword("random_number_type", IDLE, RUNNER,
            "numbers come from NumPy's PCG64, so that splits and weights differ from the original's"),
    Keyword("test_fraction", USED, BOTH,
            "data.validation_fraction; begin set=train|test in input.data goes first"),
    Keyword("epochs", USED, BOTH, "run.epochs"),
    Keyword("use_short_forces", USED, BOTH, "schedule.forces"),
    Keyword("use_old_weights_short", USED, BOTH, 'network.initializer = "files", network.weights_from'),
    Keyword("use_old_scaling", USED, RUNNER, "symmetry_functions.scaling_data"),
    Keyword("weights_min", USED, BOTH,
            "network.weights_min (initializer uniform, RuNNer's default; "
            "n2p2 rescales its numbers to glorot)"),
    Keyword("weights_max", USED, BOTH, "network.weights_max"),
    Keyword("nguyen_widrow_weights_short", USED, BOTH, 'network.initializer = "nguyen-widrow"'),
    Keyword("precondition_weights", IDLE, BOTH,
            "the units of training (network.normalize) do this; n2p2 does not implement it"),
    Keyword("separate_bias_ini_short", IDLE, RUNNER,
            "weights and biases start in the same range (network.initializer)"),
    Keyword("biasweights_min", IDLE, RUNNER,
            "weights and biases start in the same range (network.initializer)", ("biases_min",)),
    Keyword("biasweights_max", IDLE, RUNNER,
            "weights and biases start in the same range (network.initializer)", ("biases_max",)),
    Keyword("use_systematic_weights_short", IDLE, RUNNER, "weights start at random (network.initializer)"),
    Keyword("initialization_only", IDLE, RUNNER, "start with --set run.updates=1 instead"),
    Keyword("energy_fraction", USED, BOTH, "schedule.energy_fraction", ("short_energy_fraction",)),
    Keyword("force_fraction", USED, BOTH, "schedule.force_fraction", ("short_force_fraction",)),
    Keyword("force_energy_ratio", USED, N2P2,
            "schedule.force_fraction = ratio x energy_fraction x energies / force components of the data"),
    Keyword("force_weight", USED, N2P2, "schedule.force_weight"),
    Keyword("force_update_scaling", USED, RUNNER,
            "schedule.force_weight (a negative value, automatic in RuNNer, gives 1)", ("scalefactorf",)),
    # which labels
    Keyword("selection_mode", USED, N2P2,
            "schedule.selection; the first mode is kept, later switches are not made"),
    Keyword("selection_mode_energy", USED, N2P2, "schedule.selection"),
    Keyword("selection_mode_force", USED, N2P2, "schedule.selection"),
    Keyword("rmse_threshold", USED, N2P2, "schedule.energy_threshold, schedule.force_threshold"),
    Keyword("rmse_threshold_energy", USED, BOTH,
            "schedule.energy_threshold", ("short_energy_error_threshold",)),
    Keyword("rmse_threshold_force", USED, BOTH, "schedule.force_threshold", ("short_force_error_threshold",)),
    Keyword("rmse_threshold_trials", USED, N2P2, "schedule.trials"),
    Keyword("rmse_threshold_trials_energy", USED, N2P2, "schedule.trials (the larger of both)"),
    Keyword("rmse_threshold_trials_force", USED, N2P2, "schedule.trials (the larger of both)"),
    Keyword("task_batch_size_energy", USED, N2P2, "schedule.streams = times the ranks of the original run"),
    Keyword("task_batch_size_force", USED, N2P2,
            "schedule.force_streams = times the ranks of the original run"),
    Keyword("short_energy_group", USED, RUNNER, 'schedule.streams, with schedule.rows = "sum"'),
    Keyword("short_force_group", USED, RUNNER, 'schedule.force_streams, with schedule.rows = "sum"'),
    Keyword("repeated_energy_update", IDLE, BOTH,
            "every energy is observed once per epoch (schedule.energy_fraction); "
            "n2p2 refuses it with forces"),
    Keyword("mix_all_points", IDLE, RUNNER, ONE_ORDER, ("random_order_training",)),
    Keyword("fitmode", IDLE, RUNNER, ONE_ORDER),
    Keyword("force_grouping_by_structure", IDLE, RUNNER, ONE_ORDER),
    Keyword("dynamic_force_grouping", IDLE, RUNNER, ONE_ORDER),
    Keyword("update_worst_short_energies", IDLE, RUNNER, 'see schedule.selection = "sort"'),
    Keyword("update_worst_short_forces", IDLE, RUNNER, 'see schedule.selection = "sort"'),
    Keyword("fixed_short_energy_error_threshold", IDLE, RUNNER,
            "thresholds are relative to the last RMSE (schedule.energy_threshold)"),
    Keyword("fixed_short_force_error_threshold", IDLE, RUNNER,
            "thresholds are relative to the last RMSE (schedule.force_threshold)"),
    Keyword("joint_energy_force_update", IDLE, RUNNER, "energies and forces are never mixed in one update"),
    Keyword("growth_mode", IDLE, RUNNER, DATA),
    Keyword("energy_threshold", IDLE, RUNNER, DATA),
    Keyword("force_threshold", IDLE, RUNNER, DATA),
    Keyword("bond_threshold", IDLE, RUNNER, DATA),
    Keyword("max_energy", IDLE, RUNNER, DATA),
    Keyword("max_force", IDLE, RUNNER, DATA),
    Keyword("data_clustering", IDLE, RUNNER, DATA),
    # the optimiser
    Keyword("updater_type", USED, N2P2, "run.optimizer: 0 adam, 1 ekf"),
    Keyword("gradient_type", USED, N2P2, "1 (Adam) only: a fixed step is not available"),
    Keyword("gradient_eta", IDLE, N2P2, "the step of plain gradient descent, which is not available"),
    Keyword("gradient_adam_eta", USED, N2P2, "adam.learning_rate"),
    Keyword("gradient_adam_beta1", USED, N2P2, "adam.beta1"),
    Keyword("gradient_adam_beta2", USED, N2P2, "adam.beta2"),
    Keyword("gradient_adam_epsilon", USED, N2P2, "adam.epsilon"),
    Keyword("optmode_short_energy", USED, RUNNER, "1 (Kalman filter) only"),
    Keyword("optmode_short_force", USED, RUNNER, "1 (Kalman filter) only"),
    Keyword("steepest_descent_step_energy_short", IDLE, RUNNER,
            "the step of plain gradient descent, which is not available"),
    Keyword("steepest_descent_step_force_short", IDLE, RUNNER,
            "the step of plain gradient descent, which is not available"),
    Keyword("kalman_type", USED, N2P2, "ekf.fading_memory (RuNNer's filter always has it)"),
    Keyword("kalman_epsilon", USED, BOTH, "ekf.epsilon"),
    Keyword("kalman_q0", USED, BOTH, "ekf.q"),
    Keyword("kalman_qtau", USED, BOTH, "ekf.q_tau"),
    Keyword("kalman_qmin", USED, BOTH, "ekf.q_min"),
    Keyword("kalman_eta", USED, N2P2, "ekf.eta"),
    Keyword("kalman_etatau", USED, N2P2, "ekf.eta_tau"),
    Keyword("kalman_etamax", USED, N2P2, "ekf.eta_max"),
    Keyword("kalman_lambda_short", USED, BOTH, "ekf.lam"),
    Keyword("kalman_nue_short", USED, BOTH, "ekf.nu"),
    Keyword("update_strategy", USED, N2P2,
            'ekf.coupling: 0 "full", 1 "element" (with one common scaling matrix)'),
    Keyword("separate_kalman_short", USED, RUNNER, 'ekf.coupling = "element"'),
    Keyword("jacobian_mode", USED, N2P2,
            'schedule.rows: 2 "full"; 0, 1 "sum" over all, over each rank of the original run'),
    Keyword("parallel_mode", IDLE, BOTH, "the covariance is always shared out over the ranks"),
    Keyword("kalman_damp_short", IDLE, RUNNER, FILTER),
    Keyword("kalman_damp_force", IDLE, RUNNER, FILTER),
    Keyword("noise_energy", IDLE, RUNNER, FILTER),
    Keyword("noise_force", IDLE, RUNNER, FILTER),
    Keyword("use_noisematrix", IDLE, RUNNER, FILTER),
    Keyword("reset_kalman", IDLE, RUNNER, FILTER),
    Keyword("use_damping", IDLE, RUNNER, FILTER),
    Keyword("restrict_weights", IDLE, RUNNER, FILTER),
    Keyword("update_single_element", REFUSED, RUNNER, "training of the weights of one element alone"),
    Keyword("fix_weights", REFUSED, RUNNER, "training with fixed weights"),
    Keyword("weight_constraint", REFUSED, RUNNER, "training with fixed weights"),
    Keyword("shuffle_weights_short_atomic", REFUSED, RUNNER, "weights drawn anew during the training"),
    Keyword("ion_forces_only", REFUSED, RUNNER, "training by forces alone of structures with charged atoms"),
    Keyword("save_kalman_matrices", IDLE, RUNNER, MEMORY),
    Keyword("read_kalman_matrices", IDLE, RUNNER, MEMORY),
    # output, memory, speed
    Keyword("main_error_metric", IDLE, N2P2,
            "the log shows RMSE per atom and of force components; RMSE and MAE are in learning-curve.csv"),
    Keyword("write_trainpoints", IDLE, BOTH, OWN_FILES),
    Keyword("write_trainforces", IDLE, BOTH, OWN_FILES),
    Keyword("write_weights_epoch", IDLE, BOTH,
            "checkpoint.h5 and best.h5 are kept (run.checkpoint_epochs); "
            "`mpnnp export` makes weights.NNN.data"),
    Keyword("write_temporary_weights", IDLE, RUNNER,
            "checkpoint.h5 and best.h5 are kept; `mpnnp export` makes weights.NNN.data"),
    Keyword("write_neuronstats", IDLE, N2P2, OWN_FILES),
    Keyword("write_trainlog", IDLE, N2P2, "train.log and learning-curve.csv are always written"),
    Keyword("write_fit_statistics", IDLE, RUNNER, OWN_FILES),
    Keyword("write_unformatted", IDLE, RUNNER, TEXTS),
    Keyword("read_unformatted", IDLE, RUNNER, TEXTS),
    Keyword("write_pdb", IDLE, RUNNER, "ASE converts structures to this format"),
    Keyword("write_xyz", IDLE, RUNNER, "`mpnnp convert input.data structures.extxyz`"),
    Keyword("write_pov", IDLE, RUNNER, "ASE converts structures to this format"),
    Keyword("write_pwscf", IDLE, RUNNER, "ASE converts structures to this format"),
    Keyword("write_symfunctions", IDLE, RUNNER, "they are in the HDF5 files of mpnnp-cache"),
    Keyword("write_binding_energy_only", IDLE, RUNNER, OWN_FILES),
    Keyword("prepare_md", IDLE, RUNNER, "`mpnnp export` writes what engines need"),
    Keyword("md_mode", IDLE, RUNNER, "`mpnnp md`, or an engine"),
    Keyword("memorize_symfunc_results", IDLE, N2P2,
            "symmetry functions are computed once and kept in a file that all ranks share"),
    Keyword("points_in_memory", IDLE, RUNNER, FASTER),
    Keyword("enforce_max_num_neighbors_atomic", IDLE, RUNNER, FASTER),
    Keyword("use_omp_mkl", IDLE, RUNNER, FASTER),
    Keyword("use_sf_groups", IDLE, RUNNER, FASTER),
    Keyword("detailed_timing", IDLE, RUNNER, "tools/benchmark.py"),
    Keyword("detailed_timing_epoch", IDLE, RUNNER, "tools/benchmark.py"),
    Keyword("debug_mode", IDLE, RUNNER, "--debug"),
    Keyword("detect_saturation", IDLE, RUNNER, "report.html judges the training"),
    Keyword("enable_on_the_fly_input", IDLE, RUNNER,
            "Ctrl-C and --resume with other settings, which names those that may change"),
    Keyword("silent_mode", IDLE, RUNNER, "output is short and goes to train.log too"),
    Keyword("verbose", IDLE, N2P2, "output is short and goes to train.log too"),
    Keyword("fitting_unit", IDLE, RUNNER, "accuracies are in meV/atom and meV/Angstrom"),
    Keyword("calculate_forces", IDLE, RUNNER, ALWAYS),
    Keyword("calculate_stress", IDLE, RUNNER, ALWAYS),
    Keyword("calculate_hessian", IDLE, RUNNER, "ASE's vibrations with mpnnp.Calculator"),
    Keyword("calculate_final_force", IDLE, RUNNER, ALWAYS),
    Keyword("check_forces", IDLE, RUNNER, "`mpnnp check`"),
    Keyword("check_input_forces", IDLE, RUNNER, "`mpnnp info`"),
    Keyword("print_sensitivity", IDLE, RUNNER, "`mpnnp sensitivity`"),
    Keyword("print_mad", IDLE, RUNNER, "MAE is in learning-curve.csv"),
    Keyword("print_convergence_vector", IDLE, RUNNER, OWN_FILES),
    Keyword("print_force_components", IDLE, RUNNER, OWN_FILES),
    Keyword("print_all_short_weights", IDLE, RUNNER, "the data set weights of checkpoint.h5"),
    Keyword("print_date_and_time", IDLE, RUNNER, ALWAYS),
    Keyword("analyze_error", IDLE, RUNNER, OWN_FILES),
    Keyword("analyze_error_energy_step", IDLE, RUNNER, OWN_FILES),
    Keyword("analyze_error_force_step", IDLE, RUNNER, OWN_FILES),
    Keyword("analyze_composition", IDLE, RUNNER, ANALYSIS),
    Keyword("environment_analysis", IDLE, RUNNER, ANALYSIS),
    Keyword("find_contradictions", IDLE, RUNNER, ANALYSIS),
    Keyword("symfunction_correlation", IDLE, RUNNER, ANALYSIS),
    Keyword("weight_analysis", IDLE, RUNNER, ANALYSIS),
    Keyword("vdw_screening", IDLE, RUNNER, "a term that is not fitted"),
    # switches and terms of other kinds of potentials
    Keyword("use_atom_charges", IDLE, RUNNER, "charges of atoms are read over"),
    Keyword("use_electrostatics", REFUSED, RUNNER, "electrostatics (3G and 4G potentials)"),
    Keyword("use_electrostatic_nn", REFUSED, RUNNER, "electrostatics (3G and 4G potentials)"),
    Keyword("use_hamiltonian", REFUSED, RUNNER, "nets for Hamiltonians"),
    Keyword("use_vdw", REFUSED, RUNNER, "an added dispersion term"),
    Keyword("use_gausswidth", CHARGE, RUNNER, CHARGES),
    Keyword("electrostatic_type", CHARGE, RUNNER, CHARGES, ("nn_type_elec",)),
    Keyword("vdw_type", CHARGE, RUNNER, "an added dispersion term", ("nn_type_vdw",)),
    Keyword("vdw_radius", CHARGE, RUNNER, "an added dispersion term"),
    Keyword("vdw_coefficient", CHARGE, RUNNER, "an added dispersion term", ("vdw_param",)),
    Keyword("vdw_cutoff", CHARGE, RUNNER, "an added dispersion term", ("cutoff_vdw",)),
    *(Keyword(name, CHARGE, N2P2, CHARGES) for name in (
        "conv_charge", "four_pi_epsilon", "conv_phys_to_bohr", "conv_phys_to_hartree", "initial_hardness",
        "fixed_gausswidth",
        "ewald_truncation_error_method", "ewald_prec", "rmse_threshold_charge",
        "rmse_threshold_trials_charge", "selection_mode_charge", "task_batch_size_charge",
        "nguyen_widrow_weights_charge",
    )),
    *(Keyword(name, CHARGE, BOTH, CHARGES) for name in (
        "global_hidden_layers_electrostatic", "global_nodes_electrostatic", "global_activation_electrostatic",
        "element_hidden_layers_electrostatic", "element_nodes_electrostatic",
        "element_activation_electrostatic", "screen_electrostatics", "charge_fraction",
        "use_old_weights_charge", "write_traincharges",
    )),
    *(Keyword(name, CHARGE, RUNNER, CHARGES) for name in (
        "symfunction_electrostatic", "global_symfunction_electrostatic", "element_symfunction_electrostatic",
        "global_symfunction_elec", "fixed_charge", "use_fixed_charges", "fixed_atomic_charge", "ewald_alpha",
        "ewald_cutoff", "ewald_kmax", "enforce_totcharge", "use_charge_constraint",
        "charge_group", "charge_grouping_by_atom", "charge_grouping_by_structure", "charge_error_threshold",
        "total_charge_error_threshold", "fixed_charge_error_threshold", "charge_update_scaling",
        "kalman_lambda_charge", "kalman_nue_charge", "kalman_lambda_charge_constraint",
        "kalman_nue_charge_constraint", "kalman_damp_charge", "noise_charge", "optmode_charge",
        "steepest_descent_step_charge", "update_worst_charges", "analyze_error_charge_step",
        "nguyen_widrow_weights_ewald", "use_systematic_weights_electrostatic", "separate_kalman_charge",
        "weightse_min", "weightse_max", "weighte_constraint", "scale_min_elec", "scale_max_elec",
        "print_all_electrostatic_weights", "print_all_deshortdw", "print_all_dfshortdw",
        "regularize_fit_param", "nn_type_nntb", "basis",
    )),
    *(Keyword(name, CHARGE, RUNNER, "part of pair nets") for name in (
        "global_hidden_layers_pair", "global_nodes_pair", "global_nodes_short_pair", "global_activation_pair",
        "element_hidden_layers_pair", "element_nodes_pair", "element_activation_pair",
        "pairsymfunction_short", "global_pairsymfunction_short", "global_symfunction_short_pair",
        "element_pairsymfunction_short", "scale_min_short_pair", "scale_max_short_pair",
    )),
)  # fmt: skip

REPEATED = ("symfunction_short", "global_symfunction_short", "element_symfunction_short", "atom_energy",
            "element_nodes_short", "element_hidden_layers_short", "element_activation_short")  # fmt: skip

KEYWORDS = {name: keyword for keyword in TABLE for name in (keyword.name, *keyword.aliases)}

FLAGS = ("remove_atom_energies", "scale_symmetry_functions", "center_symmetry_functions",
         "scale_symmetry_functions_sigma", "normalize_nodes", "use_short_forces", "use_old_weights_short",
         "use_old_scaling", "nguyen_widrow_weights_short", "separate_kalman_short")  # fmt: skip
LISTS = (
    "elements",
    "symfunction_short",
    "global_symfunction_short",
    "element_symfunction_short",
    "global_nodes_short",
    "global_activation_short",
    "element_nodes_short",
    "element_activation_short",
)
# how many words behind a keyword that is used mean something, where it is not one
WORDS = dict.fromkeys(FLAGS, 0) | {"cutoff_type": 2, "atom_energy": 2, "element_hidden_layers_short": 2}
WITHOUT_ALPHA = ("0", "2", "3")  # types of cutoff functions that have no inner radius
SELECTION = {0: "random", 1: "sort", 2: "threshold"}
CHOICES = {  # what the first word behind a keyword may be, and its meaning
    "updater_type": {0: "gradient descent", 1: "Kalman filter"},
    "kalman_type": {0: "standard", 1: "fading memory"},
    "update_strategy": {0: "all elements at once", 1: "element by element"},
    "jacobian_mode": {0: "sum over all", 1: "sum over each task", 2: "full"},
    **dict.fromkeys(("selection_mode", "selection_mode_energy", "selection_mode_force"), SELECTION),
}
# a file that has one of these was written for RuNNer
MARKS_OF_RUNNER = (
    "runner_mode",
    "use_short_nn",
    "nn_type_short",
    "optmode_short_energy",
    "optmode_short_force",
    "points_in_memory",
)

# tool of n2p2: what does it here
TOOLS = {
    "nnp-train": "`mpiexec -n 16 mpnnp train input.nn`",
    "nnp-scaling": (
        "not needed: `mpnnp train` makes the scaling; `mpnnp prepare --histograms` writes and shows it"
    ),
    "nnp-norm": "not needed: `normalize_data_set ref`, or `network.normalize` in TOML",
    "nnp-norm2": "not needed: `normalize_data_set force`, or `network.normalize = \"force\"` in TOML",
    "nnp-prune": "`mpnnp prune`",
    "nnp-select": "`mpnnp select`",
    "nnp-convert": "`mpnnp convert`",
    "nnp-predict": "`mpnnp evaluate POTENTIAL input.data --predictions predictions.npz`",
    "nnp-dataset": (
        "`mpiexec -n 16 mpnnp evaluate POTENTIAL input.data --predictions predictions.npz`, "
        "and `mpnnp sensitivity`"
    ),
    "nnp-comp2": "`mpnnp disagree`",
    "nnp-checkf": "`mpnnp check`",
    "nnp-checkdw": "`mpnnp check --rows`",
    "nnp-symfunc": "`mpnnp.model.symmetry_functions.SymmetryFunctions` in Python",
    "nnp-cutoff": "the table of cutoff functions in the page on file formats",
    "nnp-dist": "`mpnnp analyze rdf`",
    "nnp-atomenv": "the HDF5 files of mpnnp-cache hold the symmetry functions of all atoms",
    "nnp-sfclust": "the HDF5 files of mpnnp-cache hold the symmetry functions of all atoms",
    "nnp-fpssampling": "`mpnnp select --by farthest`",
    "nnp-winit": "`network.initializer`; `mpnnp train --set run.updates=1`",
    "nnp-bench": "`python tools/benchmark.py`",
    "nnp-ewald": "none: potentials with charges are not supported",
}  # fmt: skip


def canonical(name):
    """The name of the table for a keyword or one of its aliases; an unknown keyword as it is."""
    return KEYWORDS[name].name if name in KEYWORDS else name


def extra_words(name, words):
    """Those of the words behind keyword `name` that mean nothing."""
    if KEYWORDS[name].kind != USED or name in LISTS:
        return ()
    if name == "cutoff_type" and words[0] in WITHOUT_ALPHA:
        return words[1:]
    return words[WORDS.get(name, 1) :]


def needs_value(name):
    """Whether a keyword means nothing without a word behind it."""
    return KEYWORDS[name].kind == USED and name not in FLAGS + LISTS


def nearest(name):
    """The known keyword that looks most like `name`, or None."""
    found = difflib.get_close_matches(name.lower(), list(KEYWORDS), n=1, cutoff=0.6)
    return found[0] if found else None

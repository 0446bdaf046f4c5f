/* pair_style mpnnp: a potential of mpnnp in LAMMPS; lammps_build.py compiles it into a plugin.

   Copyright (C) 2026 the authors of mpnnp

   This file is combined with LAMMPS, which is distributed under the GNU General Public License, version 2.
   So is this file, and this file alone: you can redistribute it and/or modify it under the terms of the GNU
   General Public License as published by the Free Software Foundation; version 2. It comes without any
   warranty. The rest of mpnnp, which this file calls through plain C pointers, has a license of its own (see
   LICENSE).

   What happens: this rank's atoms, ghosts and full list of neighbours are handed to Python (lammps_pair.py),
   which gives back energies, forces on atoms and ghosts, and virial, all in eV and Angstrom. LAMMPS adds up
   the forces on ghosts. Python.h is not needed: the few functions of Python are looked up by name in the
   process or in the library that build.h names. Every rank reads the potential; the kernels are compiled by
   one rank of each node first. */

#include "build.h"    // RELEASE of LAMMPS, LIBPYTHON, PYTHON, ENCODING: written by lammps_build.py

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "lammps.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <string>
#include <unistd.h>
#include <vector>

using namespace LAMMPS_NS;

extern "C" int lammps_version(void *);

#define HERE "pair_mpnnp.cpp", __LINE__

/* ---- what C++ and Python exchange; the same in lammps_pair.py */

struct Exchange {
  int64_t n_own, n_all, n_pair;      // atoms of this rank; they and the ghosts; pairs
  int64_t new_list;                  // 1 if atoms, start or neighbour are not those of the last call
  int64_t want_members, want_counts, want_virials;
  int64_t n_member, new_kernels;
  int64_t overlay;                   // 1 if other pair styles add the baseline
  int64_t worst;                     // member that extrapolates most, on all ranks together
  double cutoff;                     // Angstrom
  const double *x;                   // (n_all, 3) Angstrom
  const int64_t *element;            // (n_all,)
  const int64_t *start;              // (n_own+1,)
  const int32_t *neighbour;          // (n_pair,)
  double *energies;                  // (n_own,) eV
  double *forces;                    // (n_all, 3) eV/Angstrom
  double *virial;                    // (3, 3) dE/dstrain, eV
  double *virials;                   // (n_all, 3, 3) the same by the atom that feels the force
  double *member_energy;             // (n_member,)
  double *member_forces;             // (n_all, n_member, 3)
  double *member_counts;             // (n_member,) extrapolations of this rank's atoms
  double *counts;                    // (n_member, n_own) the same by atom
  char symbols[512], message[4096];
};

struct Functions {    // given by Python; int: 0, or 1 with a message
  int (*open)(const char *, Exchange *, int64_t *);
  int (*warm_up)(int64_t, Exchange *);
  int (*compute)(int64_t, Exchange *);
  int (*name_extrapolations)(int64_t, Exchange *);    // in the message
  void (*close)(int64_t);
};

/* ---- Python */

static Functions python_functions;

template <typename F> static F *find(void *library, const char *name)
{
  return (F *) dlsym(library, name);
}

/* Start the Python of build.h. Returns what went wrong, or "". */
static std::string start_interpreter(void *library)
{
  if (auto set_program = find<void(const wchar_t *)>(library, "Py_SetProgramName")) {    // gone after 3.14
    static std::wstring program;
    for (const char *c = PYTHON; *c; c++) program.push_back((unsigned char) *c);
    if (auto decode = find<wchar_t *(const char *, size_t *)>(library, "Py_DecodeLocale"))
      if (wchar_t *decoded = decode(PYTHON, nullptr)) program = decoded;
    set_program(program.c_str());
    find<void(int)>(library, "Py_InitializeEx")(0);
  } else {
    auto create = find<void *()>(library, "PyInitConfig_Create");
    auto set_text = find<int(void *, const char *, const char *)>(library, "PyInitConfig_SetStr");
    auto initialize = find<int(void *)>(library, "Py_InitializeFromInitConfig");
    if (!create || !set_text || !initialize) return LIBPYTHON " is no Python that can be started from here";
    void *config = create();
    if (!config || set_text(config, "program_name", PYTHON) || initialize(config))
      return "Python could not be started from " LIBPYTHON;
  }
  if (!find<int()>(library, "Py_IsInitialized")()) return "Python could not be started from " LIBPYTHON;
  find<void *()>(library, "PyEval_SaveThread")();    // from now on PyGILState_Ensure works from everywhere
  return "";
}

/* Fill python_functions, in the Python that runs already or in that of build.h. What went wrong, or "". */
static std::string connect()
{
  static char message[4096];
  if (python_functions.open) return "";
  void *library = RTLD_DEFAULT;
  auto running = find<int()>(library, "Py_IsInitialized");
  if (!running || !running()) {
    library = dlopen(LIBPYTHON, RTLD_NOW | RTLD_GLOBAL);    // global: extension modules look there for Python
    if (!library) return std::string("cannot load Python: ") + dlerror();
    std::string error = start_interpreter(library);
    if (!error.empty()) return error;
  }
  auto ensure = find<int()>(library, "PyGILState_Ensure");
  auto release = find<void(int)>(library, "PyGILState_Release");
  auto run = find<int(const char *)>(library, "PyRun_SimpleString");
  if (!ensure || !release || !run) return "the Python of this process lacks its C functions";
  std::string code = "def _mpnnp(functions, message):\n"
                     "    import ctypes\n"
                     "    try:\n"
                     "        from mpnnp.simulation import lammps_pair\n"
                     "        lammps_pair.connect(functions)\n"
                     "    except BaseException as error:\n"
                     "        text = f'{type(error).__name__}: {error}'.encode()[:4000]\n"
                     "        ctypes.memmove(message, text + bytes(1), len(text) + 1)\n";
  code += "_mpnnp(" + std::to_string((uintptr_t) &python_functions) + ", ";
  code += std::to_string((uintptr_t) message) + ")\n";
  code += "del _mpnnp\n";
  int state = ensure();
  int bad = run(code.c_str());
  release(state);
  if (message[0]) return std::string("mpnnp cannot be loaded by " PYTHON ": ") + message;
  return bad || !python_functions.open ? "mpnnp cannot be loaded by " PYTHON : "";
}

/* ---- the pair style */

namespace {

class PairMpnnp : public Pair {
 public:
  PairMpnnp(LAMMPS *lmp) : Pair(lmp)
  {
    single_enable = restartinfo = 0;
    one_coeff = manybody_flag = no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_AVAIL;
    nextra = 3;
    pvector = extra;
    exchange = Exchange();
  }

  ~PairMpnnp() override
  {
    if (handle && python_functions.close) python_functions.close(handle);
    if (allocated) {
      memory->destroy(setflag);
      memory->destroy(cutsq);
    }
    memory->destroy(spread);
  }

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override { return exchange.cutoff; }
  void compute(int, int) override;
  void finish() override { report(true); }
  void *extract(const char *, int &) override;
  void *extract_peratom(const char *, int &) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;
  double memory_usage() override;

 private:
  Exchange exchange;
  int64_t handle = 0;
  int every = 1000;
  bigint limit = -1;                   // extrapolations after which to stop
  int64_t n_extrapolation = 0;         // of the worst member, this rank's atoms, the last evaluation
  bigint counted = 0, reported = 0;    // extrapolations of this rank; of all ranks, until the last report
  double unit = 1.0;                   // of energy in eV
  double extra[3] = {0.0, 0.0, 0.0};
  std::vector<int> type_element;             // of each LAMMPS type, -1 for NULL; empty before pair_coeff
  bool everything = true;                    // no type is NULL, and LAMMPS lists all atoms
  std::vector<int> place;                    // atoms seen by the potential, own ones first
  std::vector<int> types;                    // LAMMPS's, of all atoms, at the last list
  std::vector<int64_t> start, element;
  std::vector<int32_t> neighbour;
  std::vector<double> x, energies, forces, virials, members, member_counts, counts, counts_of_all;
  bigint list_step = -1, list_number = -1;
  int n_local = -1, n_ghost = -1;
  int forces_std_flag = 0, extrapolations_flag = 0;
  bool spread_asked = false, spread_flagged = false, counts_asked = false, counts_flagged = false;
  double **spread = nullptr;
  int n_spread = 0, n_counts = 0;

  void check(bool, const std::string &);
  void compile_kernels();
  void pack_list();
  void pack_atoms();
  void count_extrapolations();
  void add_results();
  void add_virials();
  void add_spread();
  void report(bool);
};

/* Collective: an error of the lowest rank that has one ends all. */
void PairMpnnp::check(bool bad, const std::string &text)
{
  int mine = bad ? comm->me : comm->nprocs, first;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == comm->nprocs) return;
  char message[4096] = "";
  if (first == comm->me) strncpy(message, text.c_str(), sizeof(message) - 1);
  MPI_Bcast(message, sizeof(message), MPI_CHAR, first, world);
  error->all(HERE, std::string("pair_style mpnnp: ") + message);
}

/* pair_style mpnnp POTENTIAL[,POTENTIAL...] [every N] [stop K] [baseline overlay] */
void PairMpnnp::settings(int narg, char **arg)
{
  if (narg < 1) error->all(HERE, "pair_style mpnnp: name a checkpoint or a folder of n2p2 files");
  every = 1000;
  limit = -1;
  exchange.overlay = 0;
  for (int k = 1; k < narg; k += 2) {
    if (!strcmp(arg[k], "baseline") && k + 1 < narg && !strcmp(arg[k + 1], "overlay")) {
      exchange.overlay = 1;
      continue;
    }
    bool known = !strcmp(arg[k], "every") || !strcmp(arg[k], "stop");
    if (!known || k + 1 >= narg)
      error->all(HERE, std::string("pair_style mpnnp: found ") + arg[k] +
                           ", allowed after the potential: every N, stop K, baseline overlay (several "
                           "potentials: commas between them, no spaces)");
    bigint value = utils::bnumeric(HERE, arg[k + 1], false, lmp);
    if (!strcmp(arg[k], "every")) {
      if (value < 1 || value > MAXSMALLINT)
        error->all(HERE, "pair_style mpnnp: every must be 1 or more steps");
      every = (int) value;
    } else {
      if (value < 0) error->all(HERE, "pair_style mpnnp: stop must be 0 or more extrapolations");
      limit = value;
    }
  }
  std::string units = update->unit_style;
  if (units != "metal" && units != "real")
    error->all(HERE, "pair_style mpnnp: units " + units + " are not known, use metal or real");
  unit = units == "metal" ? 1.0 : utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL);

  std::string problem = connect();
  check(!problem.empty(), problem);
  if (handle) python_functions.close(handle);
  handle = 0;
  exchange.message[0] = 0;
  std::string before = exchange.symbols;
  int bad = python_functions.open(arg[0], &exchange, &handle);
  check(bad, exchange.message);
  if (before != exchange.symbols) type_element.clear();    // they were numbers of other elements
  compile_kernels();
  comm_reverse = exchange.n_member > 1 ? 3 * (int) exchange.n_member : 0;
}

/* One rank of each node compiles, then all others load what it wrote. They wait without using a core. */
void PairMpnnp::compile_kernels()
{
  if (comm->me == 0 && exchange.new_kernels)
    utils::logmesg(lmp, "mpnnp: compiling the kernels: once per machine and version, half a minute\n");
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int rank;
  MPI_Comm_rank(node, &rank);
  MPI_Comm_free(&node);
  int bad = 0;
  for (int turn = 0; turn < 2; turn++) {
    if ((rank == 0) == (turn == 0)) bad = python_functions.warm_up(handle, &exchange);
    MPI_Request request;
    MPI_Ibarrier(world, &request);
    for (int done = 0; !done;) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (!done) usleep(5000);
    }
    check(bad, exchange.message);
  }
}

/* pair_coeff * * H O NULL: an element of the potential, or NULL, for each LAMMPS type */
void PairMpnnp::coeff(int narg, char **arg)
{
  int n = atom->ntypes;
  if (!allocated) {
    allocated = 1;
    memory->create(setflag, n + 1, n + 1, "pair:setflag");
    memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
  }
  if (narg != n + 2 || strcmp(arg[0], "*") || strcmp(arg[1], "*"))
    error->all(HERE, "pair_style mpnnp: expected pair_coeff * * and one element, or NULL, for each of the " +
                         std::to_string(n) + " atom types");
  std::vector<std::string> symbols;
  std::string list = exchange.symbols;
  for (size_t a = 0, b; a < list.size(); a = b + 1) {
    b = std::min(list.find(' ', a), list.size());
    symbols.push_back(list.substr(a, b - a));
  }
  type_element.assign(n + 1, -1);
  everything = true;
  int mapped = 0;
  for (int t = 1; t <= n; t++) {
    if (!strcmp(arg[t + 1], "NULL")) {
      everything = false;
      continue;
    }
    auto found = std::find(symbols.begin(), symbols.end(), arg[t + 1]);
    if (found == symbols.end())
      error->all(HERE, std::string("pair_coeff: type ") + std::to_string(t) + " is " + arg[t + 1] +
                           "; the potential knows " + list + ", and NULL leaves a type out");
    type_element[t] = (int) (found - symbols.begin());
    mapped++;
  }
  if (!mapped) error->all(HERE, "pair_coeff: no type has an element of the potential (" + list + ")");
  // alone, the style is asked about all pairs of types; within hybrid it takes those of its elements
  bool hybrid = force->pair_style && utils::strmatch(force->pair_style, "^hybrid");
  for (int i = 1; i <= n; i++)
    for (int j = i; j <= n; j++) setflag[i][j] = !hybrid || (type_element[i] >= 0 && type_element[j] >= 0);
}

void PairMpnnp::init_style()
{
  if (!force->newton_pair) error->all(HERE, "pair_style mpnnp needs newton on");
  if (type_element.empty())
    error->all(HERE, std::string("pair_style mpnnp: the potential was replaced by one of other elements (") +
                         exchange.symbols + "), and pair_coeff is not said again after it");
  for (int k = 1; k < 4; k++)
    if (atom->molecular != Atom::ATOMIC && force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
      error->all(HERE, "pair_style mpnnp needs all neighbours, also bonded ones: add special_bonds lj/coul "
                       "1.0 1.0 1.0 (or tiny numbers for others of a hybrid), or use atom_style atomic");
  neighbor->add_request(this, NeighConst::REQ_FULL);
  list_step = -1;
}

/* The atoms of the potential and their neighbours, when LAMMPS has made a new list. */
void PairMpnnp::pack_list()
{
  int n = atom->nlocal, n_all = n + atom->nghost;
  bool same = neighbor->ago != 0 && neighbor->lastcall == list_step && neighbor->ncalls == list_number &&
      n == n_local && atom->nghost == n_ghost && std::equal(types.begin(), types.end(), atom->type);
  exchange.new_list = !same;
  if (same) return;
  list_step = neighbor->lastcall;
  list_number = neighbor->ncalls;
  n_local = n;
  n_ghost = atom->nghost;
  types.assign(atom->type, atom->type + n_all);
  std::vector<int> number(n_all, -1);    // of an atom among those of the potential
  place.clear();
  exchange.n_own = 0;
  for (int i = 0; i < n_all; i++)
    if (type_element[types[i]] >= 0) {
      number[i] = (int) place.size();
      place.push_back(i);
      if (i < n) exchange.n_own++;
    }
  exchange.n_all = place.size();
  element.resize(place.size());
  for (size_t k = 0; k < place.size(); k++) element[k] = type_element[types[place[k]]];
  std::vector<int> length(n, 0);    // LAMMPS lists only some atoms for a style of a hybrid
  for (int k = 0; k < list->inum; k++) length[list->ilist[k]] = list->numneigh[list->ilist[k]];
  start.assign(1, 0);
  neighbour.clear();
  for (int64_t k = 0; k < exchange.n_own; k++) {
    int i = place[k];
    for (int m = 0; m < length[i]; m++) {
      int j = number[list->firstneigh[i][m] & NEIGHMASK];
      if (j >= 0) neighbour.push_back(j);
    }
    start.push_back(neighbour.size());
  }
  exchange.n_pair = neighbour.size();
}

void PairMpnnp::pack_atoms()
{
  int64_t n = exchange.n_all;
  bool whole = everything && n == atom->nlocal + atom->nghost;
  if (!whole) {
    x.resize(3 * n);
    for (int64_t k = 0; k < n; k++)
      for (int d = 0; d < 3; d++) x[3 * k + d] = atom->x[place[k]][d];
  }
  exchange.x = n == 0 ? nullptr : whole ? atom->x[0] : x.data();
  exchange.element = element.data();
  exchange.start = start.data();
  exchange.neighbour = neighbour.data();
  energies.assign(exchange.n_own, 0.0);
  forces.assign(3 * n, 0.0);
  exchange.energies = energies.data();
  exchange.forces = forces.data();
}

void PairMpnnp::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  pack_list();
  pack_atoms();
  double virial_sum[9] = {0};
  std::vector<double> member_energy(exchange.n_member, 0.0);
  exchange.virial = virial_sum;
  exchange.member_energy = member_energy.data();
  exchange.want_virials = vflag_atom || cvflag_atom;
  bool spread_wanted = eflag_global || forces_std_flag || (spread_asked && !spread_flagged);
  exchange.want_members = exchange.n_member > 1 && spread_wanted;
  exchange.want_counts = extrapolations_flag || (counts_asked && !counts_flagged);
  virials.assign(exchange.want_virials ? 9 * exchange.n_all : 0, 0.0);
  counts.assign(exchange.want_counts ? exchange.n_member * exchange.n_own : 0, 0.0);
  member_counts.assign(exchange.n_member, 0.0);
  members.assign(exchange.want_members ? 3 * exchange.n_member * exchange.n_all : 0, 0.0);
  exchange.virials = virials.data();
  exchange.counts = counts.data();
  exchange.member_counts = member_counts.data();
  exchange.member_forces = members.data();
  if (python_functions.compute(handle, &exchange))
    error->one(HERE, "pair_style mpnnp, step " + std::to_string(update->ntimestep) + ": " + exchange.message);
  count_extrapolations();
  add_results();
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] -= unit * virial_sum[k < 3 ? 4 * k : k == 3 ? 1 : k == 4 ? 2 : 5];
  if (exchange.want_virials) add_virials();
  if (exchange.want_members) add_spread();
  bool now = update->ntimestep % every == 0;
  if (now || limit >= 0) report(now);
}

/* Collective for an ensemble, of which all ranks count the same member. */
void PairMpnnp::count_extrapolations()
{
  std::vector<double> total = member_counts;
  if (exchange.n_member > 1)
    MPI_Allreduce(member_counts.data(), total.data(), (int) total.size(), MPI_DOUBLE, MPI_SUM, world);
  exchange.worst = std::max_element(total.begin(), total.end()) - total.begin();
  n_extrapolation = (int64_t) member_counts[exchange.worst];
  counted += n_extrapolation;
  extra[0] = (double) n_extrapolation;    // compute pair adds up over the ranks
  if (!exchange.want_counts) return;
  n_counts = atom->nmax;
  counts_of_all.assign(n_counts, 0.0);
  const double *of_atoms = counts.data() + exchange.worst * exchange.n_own;
  for (int64_t k = 0; k < exchange.n_own; k++) counts_of_all[place[k]] = of_atoms[k];
}

void PairMpnnp::add_results()
{
  double **f = atom->f;
  for (int64_t k = 0; k < exchange.n_all; k++)
    for (int d = 0; d < 3; d++) f[place[k]][d] += unit * forces[3 * k + d];
  if (eflag_global)
    for (double e : energies) eng_vdwl += unit * e;
  if (eflag_atom)
    for (int64_t k = 0; k < exchange.n_own; k++) eatom[place[k]] += unit * energies[k];
}

/* virials[k][a][b] = dE/dr_a r_b of the forces on atom k: LAMMPS wants r f, as xx yy zz xy xz yz yx zx zy */
void PairMpnnp::add_virials()
{
  static const int row[9] = {0, 1, 2, 0, 0, 1, 1, 2, 2}, column[9] = {0, 1, 2, 1, 2, 2, 0, 0, 1};
  for (int64_t k = 0; k < exchange.n_all; k++) {
    const double *v = virials.data() + 9 * k;
    for (int c = 0; c < 9; c++) {
      double rf = -unit * v[3 * column[c] + row[c]], fr = -unit * v[3 * row[c] + column[c]];
      if (vflag_atom && c < 6) vatom[place[k]][c] += 0.5 * (rf + fr);
      if (cvflag_atom) cvatom[place[k]][c] += rf;
    }
  }
}

/* Sample standard deviations over the members: forces by component and atom, and the energy. */
void PairMpnnp::add_spread()
{
  int n = (int) exchange.n_member;
  std::vector<double> whole(3 * (size_t) n * (atom->nlocal + atom->nghost), 0.0);    // by LAMMPS's numbers
  for (int64_t k = 0; k < exchange.n_all; k++)
    std::copy_n(members.data() + 3 * n * k, 3 * n, whole.data() + 3 * (size_t) n * place[k]);
  members.swap(whole);
  comm->reverse_comm(this);
  if (n_spread < atom->nmax) {
    n_spread = atom->nmax;
    memory->destroy(spread);
    memory->create(spread, n_spread, 3, "pair:spread");
  }
  double largest = 0.0;
  for (int i = 0; i < atom->nlocal; i++) {
    const double *f = members.data() + 3 * (size_t) n * i;
    double total = 0.0;
    for (int d = 0; d < 3; d++) {
      double mean = 0.0, square = 0.0;
      for (int m = 0; m < n; m++) mean += f[3 * m + d] / n;
      for (int m = 0; m < n; m++) square += (f[3 * m + d] - mean) * (f[3 * m + d] - mean);
      spread[i][d] = unit * sqrt(square / (n - 1));
      total += spread[i][d] * spread[i][d];
    }
    largest = std::max(largest, sqrt(total));
  }
  if (!eflag_global) return;
  std::vector<double> energy(n);
  double most;
  MPI_Allreduce(exchange.member_energy, energy.data(), n, MPI_DOUBLE, MPI_SUM, world);
  MPI_Allreduce(&largest, &most, 1, MPI_DOUBLE, MPI_MAX, world);
  double mean = 0.0, square = 0.0;
  for (double e : energy) mean += e / n;
  for (double e : energy) square += (e - mean) * (e - mean);
  extra[1] = comm->me ? 0.0 : unit * sqrt(square / (n - 1));    // compute pair adds up over the ranks
  extra[2] = comm->me ? 0.0 : most;
}

int PairMpnnp::pack_reverse_comm(int n, int first, double *buffer)
{
  std::copy_n(members.data() + (size_t) comm_reverse * first, (size_t) comm_reverse * n, buffer);
  return comm_reverse * n;
}

void PairMpnnp::unpack_reverse_comm(int n, int *atoms, double *buffer)
{
  for (int k = 0; k < n; k++)
    for (int c = 0; c < comm_reverse; c++) members[(size_t) comm_reverse * atoms[k] + c] += *buffer++;
}

/* Collective: tell how many extrapolations there were since the last report; beyond the limit stop. */
void PairMpnnp::report(bool tell)
{
  bigint total;
  MPI_Allreduce(&counted, &total, 1, MPI_LMP_BIGINT, MPI_SUM, world);
  bool beyond = limit >= 0 && total > limit;
  if ((tell || beyond) && total > reported) {
    if (comm->me == 0)
      utils::logmesg(lmp, "mpnnp: step " + std::to_string(update->ntimestep) + ": " +
                              std::to_string(total - reported) + " symmetry functions outside their range of "
                              "training since the last report, " + std::to_string(total) + " in all\n");
    reported = total;
  }
  if (!beyond) return;
  std::string text = std::to_string(total) + " symmetry functions were outside their range of training, more "
      "than stop " + std::to_string(limit) + " allows";
  bool some = n_extrapolation > 0;
  if (some) {
    python_functions.name_extrapolations(handle, &exchange);
    text += std::string("; some of this step: ") + exchange.message;
  }
  check(some || comm->me == comm->nprocs - 1, text);
}

/* fix ID all pair N mpnnp forces_std 1 extrapolations 1 */
void *PairMpnnp::extract_peratom(const char *name, int &columns)
{
  if (!strcmp(name, "forces_std") && exchange.n_member > 1) {
    columns = 3;
    spread_asked = true;
    return n_spread < atom->nlocal ? nullptr : spread;
  }
  if (!strcmp(name, "extrapolations")) {
    columns = 0;
    counts_asked = true;
    return n_counts < atom->nlocal ? nullptr : counts_of_all.data();
  }
  return nullptr;
}

void *PairMpnnp::extract(const char *name, int &dimension)
{
  dimension = 0;
  if (!strcmp(name, "cutoff")) return &exchange.cutoff;
  if (!strcmp(name, "forces_std_flag") && exchange.n_member > 1) {
    spread_flagged = true;
    return &forces_std_flag;
  }
  if (!strcmp(name, "extrapolations_flag")) {
    counts_flagged = true;
    return &extrapolations_flag;
  }
  return nullptr;
}

double PairMpnnp::memory_usage()
{
  size_t numbers = x.capacity() + forces.capacity() + virials.capacity() + members.capacity();
  numbers += start.capacity() + element.capacity();
  return Pair::memory_usage() + 8.0 * numbers + 4.0 * neighbour.capacity();
}

void *make_pair(LAMMPS *lmp)
{
  return new PairMpnnp(lmp);
}

}    // namespace

/* ---- the interface of LAMMPS's plugins */

struct Plugin {
  const char *version, *style, *name, *info, *author;
  void *(*creator)(LAMMPS *);
  void *handle;
};

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *register_plugin)
{
  if (lammps_version(lmp) != RELEASE) {
    fprintf(stderr, "mpnnp: this plugin was compiled for LAMMPS %d and cannot serve LAMMPS %d: "
            "mpnnp lammps --build makes another\n", RELEASE, lammps_version(lmp));
    return;
  }
  static Plugin plugin;
  const char *info = "neural network potentials of mpnnp", *author = "the authors of mpnnp";
  plugin = {((LAMMPS *) lmp)->version, "pair", "mpnnp", info, author, make_pair, handle};
  ((void (*)(Plugin *, void *)) register_plugin)(&plugin, lmp);
}

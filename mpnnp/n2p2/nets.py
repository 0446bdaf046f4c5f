"""The nets of an input.nn of RuNNer or n2p2: keywords global_* and element_*, in both dialects."""

from ase.data import chemical_symbols

from mpnnp.errors import DataError
from mpnnp.model.network import ACTIVATIONS, LETTERS, Network
from mpnnp.n2p2.input_file import check_agreement
from mpnnp.progress import counted


def read_network(source, functions):
    """Network of the keywords global_* and element_* of an input.nn; the first may be missing where each
    element has the others.
    """
    depths = _depths(source, functions)
    _check_elements(source, depths)
    whole, _ = _dialect(source, depths)
    _check_once(source, whole)
    nodes, letters = _integers(source, "global_nodes_short"), _letters(source)
    sizes, activations = [], []
    for z in functions.elements:
        symbol = chemical_symbols[z]
        depth = depths[symbol]
        hidden = (nodes + [None] * depth)[:depth]
        names = (letters + ["t" if letters else None] * depth)[:depth]  # of more layers than all others have
        for keyword in source.all("element_nodes_short", "element_activation_short"):
            if keyword.words[:1] == (symbol,):
                values = hidden if keyword.name == "element_nodes_short" else names
                (_set_layers if whole else _set_layer)(source, keyword, values, depth)
        _check_layers(source, symbol, hidden, names)
        sizes.append((len(functions.of(z)), *hidden, 1))
        activations.append((*(ACTIVATIONS[LETTERS.index(letter)] for letter in names), "identity"))
    return Network(sizes, activations)


def _letters(source):
    """The letters of the global activation functions of the hidden layers; behind them that of the output
    may stand.
    """
    if not source.has("global_activation_short"):
        return []
    letters = list(source.words("global_activation_short"))
    n_hidden = source.value("global_hidden_layers_short", int, default=len(letters))
    output = letters[n_hidden : n_hidden + 1]
    if len(letters) < n_hidden or output not in ([], ["l"]):
        wrong = f": the output layer must be linear (l), found '{output[0]}'" if output else ""
        raise DataError(
            f"{source.place('global_activation_short')}: has {len(letters)} activation functions, must have "
            f"{n_hidden} (global_hidden_layers_short), and l for the output{wrong}"
        )
    return letters[:n_hidden]


def _check_layers(source, symbol, hidden, names):
    """Raise DataError for layers of an element that have no nodes, or no activation function that is known.

    hidden, names   nodes and letters of its hidden layers; None: not given
    """
    for k, (n, letter) in enumerate(zip(hidden, names), 1):
        for value, name in ((n, "nodes"), (letter, "activation")):
            if value is None:
                key = f"global_{name}_short"
                given = f"; {key} gives {counted(k - 1, 'layer')}" if source.has(key) else ""
                raise DataError(
                    f"{source.path}: layer {k} of the {len(hidden)} hidden layers of {symbol} is not given: "
                    f"by {key} or element_{name}_short{given}"
                )
        if n < 1:
            at = _line_of(source, "nodes", str(n))
            raise DataError(f"{at}: a layer of {symbol} has {n} nodes, must have 1 at least")
        if letter not in LETTERS:
            at = _line_of(source, "activation", letter)
            raise DataError(f"{at}: activation function '{letter}': known are {' '.join(LETTERS)}")


def _line_of(source, name, word):
    """File, line and text of the last line about nodes or activation functions with this word, that of an
    element before the global one.
    """
    lines = source.all(f"global_{name}_short") + source.all(f"element_{name}_short")
    k = next(k for k in reversed(lines) if word in k.words)
    return f"{source.path}, line {k.line}: '{k.text}'"


def ambiguous_layers(source, functions):
    """Lines of an input.nn, in words, that name a layer and its nodes in one dialect, the nodes of both
    hidden layers in the other, and by which nothing tells the dialect.
    """
    depths = _depths(source, functions)
    if any(_dialect(source, depths)):
        return []
    found = []
    for keyword in source.all("element_nodes_short"):
        symbol, layer, nodes = (*keyword.words, "", "", "")[:3]
        if len(keyword.words) == 3 and depths.get(symbol) == 2 and layer in ("1", "2"):
            found.append(
                f"line {keyword.line}, '{keyword.text}': read as layer {layer} "
                f"of {nodes} nodes (RuNNer, n2p2 up to 2.2); n2p2's master reads layers of {layer} and "
                f"{nodes} nodes"
            )
    return found


def unread_layers(source):
    """Notes, in words, on nodes and activation functions behind those of the hidden layers."""
    found = []
    n_hidden = source.value("global_hidden_layers_short", int, default=1 << 30)
    for name, n in (("global_nodes_short", n_hidden), ("global_activation_short", n_hidden + 1)):
        if source.has(name) and (extra := source.words(name)[n:]):
            last, be = source.last(name), "is" if n_hidden == 1 else "are"
            found.append(
                f"line {last.line}, '{last.text}': there {be} {counted(n_hidden, 'hidden layer')}, "
                f"{' '.join(extra)} is not used"
            )
    return found


def _check_elements(source, depths):
    """Raise DataError for a line of an element that the file does not list."""
    for k in source.all("element_hidden_layers_short", "element_nodes_short", "element_activation_short"):
        symbol = k.words[0] if k.words else "nothing"
        if symbol not in depths:
            raise DataError(
                f"{source.path}, line {k.line}: '{k.text}': expected one of the "
                f"elements {' '.join(depths)} of the file, found {symbol}"
            )


def _check_once(source, whole):
    """Raise DataError where two lines contradict each other about one layer of an element, or about all of
    its layers.

    whole   whether a line has a value for each layer
    """
    seen = {}
    for k in source.all("element_hidden_layers_short", "element_nodes_short", "element_activation_short"):
        n_name = 1 if whole or k.name == "element_hidden_layers_short" else 2
        check_agreement(source.path, seen.setdefault((k.name, *k.words[:n_name]), k), k)


def _depths(source, functions):
    """Symbol -> number of hidden layers."""
    n_hidden = source.value("global_hidden_layers_short", int, default=-1)
    if n_hidden < 0 and source.has("global_hidden_layers_short"):
        raise DataError(f"{source.place('global_hidden_layers_short')}: must not be negative")
    depths = dict.fromkeys((chemical_symbols[z] for z in functions.elements), n_hidden)
    for keyword in source.all("element_hidden_layers_short"):
        if keyword.words[:1] and keyword.words[0] in depths:
            depths[keyword.words[0]] = _depth(source, keyword)
    if missing := [symbol for symbol, depth in depths.items() if depth < 0]:
        raise DataError(
            f"{source.path}: the keyword 'global_hidden_layers_short' is missing, and "
            f"element_hidden_layers_short of {' '.join(missing)}"
        )
    return depths


def _dialect(source, depths):
    """(line that has a word for each layer, line that names a layer) of element_nodes_short and
    element_activation_short: ELEMENT n1 n2 ... of n2p2's master, ELEMENT LAYER VALUE of RuNNer and n2p2 up to
    2.2; None where there is none, both None where nothing tells. Raises DataError where both occur.

    depths  symbol -> number of hidden layers
    """
    whole = single = None
    seen = set()
    for k in source.all("element_nodes_short", "element_activation_short"):
        values = k.words[1:]
        if k.name == "element_activation_short":
            of_layers = not (len(values) == 2 and values[0].isdecimal())
            of_layer = not of_layers
        else:
            depth = depths.get(k.words[0] if k.words else "", 0)
            beyond = len(values) == 2 == depth and values[0].isdecimal() and int(values[0]) > depth
            beyond = beyond and values[1] != "1"  # the output layer, named in the other form
            of_layers = len(values) > 2 or beyond or len(values) == 1 == depth
            of_layer = k.words[:1] in seen
            seen.add(k.words[:1])
        whole, single = whole or (k if of_layers else None), single or (k if of_layer else None)
    if whole and single and len(single.words) == len(whole.words) and _twice(single, whole):
        raise DataError(
            f"{source.path}, line {single.line}: '{single.text}': a second "
            f"line with a value for each layer of {single.words[0]}, after line {whole.line}"
        )
    if whole and single:
        lines = [f"'{k.text}' (line {k.line})" for k in (single, whole)]
        raise DataError(
            f"{source.path}: {lines[0]} names a layer and its value, {lines[1]} one value for each layer: "
            "write both in one form"
        )
    return whole, single


def _twice(one, other):
    """Whether two lines of one element have values for each layer."""
    return one.words[:1] == other.words[:1] and one.words[1:2] not in (("1",), ("2",))


def _set_layer(source, keyword, values, depth):
    """ELEMENT LAYER VALUE; the layer of the output may be named too."""
    try:
        layer = int(keyword.words[1])
        value = keyword.words[2] if keyword.name == "element_activation_short" else int(keyword.words[2])
        if layer < 1:
            raise ValueError
    except (IndexError, ValueError):
        raise DataError(
            f"{source.path}, line {keyword.line}: expected '{keyword.name} ELEMENT LAYER VALUE'"
        ) from None
    if layer <= depth:
        values[layer - 1] = value
    elif layer > depth + 1 or value not in (1, "l"):
        raise DataError(
            f"{source.path}, line {keyword.line}: '{keyword.text}': "
            f"{keyword.words[0]} has {counted(depth, 'hidden layer')}"
        )


def _set_layers(source, keyword, values, depth):
    """ELEMENT VALUE VALUE ..., one for each hidden layer; behind activations perhaps that of the output."""
    words = keyword.words[1:]
    try:
        if keyword.name == "element_activation_short":
            if len(words) == depth + 1 and words[-1] == "l":
                words = words[:-1]
            found = list(words)
        else:
            found = [int(word) for word in words]
    except ValueError:
        raise DataError(
            f"{source.path}, line {keyword.line}: expected '{keyword.name} ELEMENT VALUE VALUE ...'"
        ) from None
    if len(found) != depth:
        raise DataError(
            f"{source.path}, line {keyword.line}: '{keyword.text}' has "
            f"{len(found)} values, "
            f"{keyword.words[0]} has {counted(depth, 'hidden layer')}"
        )
    values[:] = found


def _depth(source, keyword):
    """Number of hidden layers of a line element_hidden_layers_short ELEMENT N."""
    try:
        depth = int(keyword.words[1])
        if depth < 0:
            raise ValueError
        return depth
    except (IndexError, ValueError):
        raise DataError(
            f"{source.path}, line {keyword.line}: expected 'element_hidden_layers_short ELEMENT N'"
        ) from None


def _integers(source, name):
    """The integers behind a keyword; [] if it is not there."""
    words = source.words(name) if source.has(name) else ()
    try:
        return [int(word) for word in words]
    except ValueError:
        raise DataError(f"{source.place(name)}: expected integers") from None

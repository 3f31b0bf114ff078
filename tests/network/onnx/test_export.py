"""Networks written as ONNX models: read back by the importer, and run by onnxruntime."""

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest

from polyfuse.errors import InvalidInput, UnsupportedOperator
from polyfuse.loading import load_onnx, load_workload
from polyfuse.network.activated import with_activation
from polyfuse.network.activation import ACTIVATIONS
from polyfuse.network.custom import statement_layer
from polyfuse.network.layer import Layer
from polyfuse.network.layers import copies, matrices, normalisation, pointwise, reductions
from polyfuse.network.layers.deconvolution import conv_transpose
from polyfuse.network.layers.resizing import resize
from polyfuse.network.network import Builder, Network
from polyfuse.network.onnx.export import onnx_model, save_onnx
from polyfuse.network.operator import Copy
from polyfuse.network.reference import max_relative_error, random_inputs, run
from polyfuse.network.resampling import Resampling
from polyfuse.network.tensor import Tensor
from polyfuse.network.window import Window
from polyfuse.rewrite.rewriting import rewrite
from tests.kernels import LOOPS
from tests.network.layers.test_whole_layers import LAYERS
from tests.network.onnx.models import onnxruntime_run, values

CLOSE = 1e-5
ROOT = Path(__file__).parents[3]
NUMBERS = {"clip": (-0.25, 0.5), "at_least": (-0.25,), "at_most": (0.5,), "leaky_relu": (0.1,), "elu": (0.7,)}
NUMBERS["hard_sigmoid"] = (0.3, 0.4)


def check_round_trip(net: Network, folder: Path) -> Network:
    """The model is valid, onnxruntime computes what the network does, and so does the model read back."""
    model = onnx_model(net)
    onnx.checker.check_model(model, full_check=True)
    given = random_inputs(net, 5)
    expected = run(net, given)
    for tensor, value in zip(net.outputs, onnxruntime_run(model, given), strict=True):
        assert max_relative_error(value, expected[tensor.name]) <= CLOSE
    save_onnx(net, folder / "net.onnx")
    again = load_onnx(folder / "net.onnx")
    assert [t.name for t in again.inputs] == [t.name for t in net.inputs]
    assert [t.shape for t in again.outputs] == [t.shape for t in net.outputs]
    found = run(again, given)
    for tensor, same in zip(net.outputs, again.outputs, strict=True):
        assert max_relative_error(found[same.name], expected[tensor.name]) <= CLOSE
    return again


def one(make: Callable[[Builder, Tensor], Tensor]) -> Network:
    """A network of one layer or a few."""
    build = Builder("net", seed=3)
    return build.network(make(build, build.input("x", (2, 4, 9, 11))))


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.conv("c", x, 6, kernel=(3, 2), stride=(2, 1), padding=(1, 0, 2, 1), dilation=(1, 2)),
        lambda b, x: b.conv("c", x, 6, kernel=3, groups=2, bias=False, activation="relu6"),
        lambda b, x: b.depthwise("c", x, kernel=5, padding=2, activation=("leaky_relu", 0.2)),
        lambda b, x: b.max_pool("p", x, kernel=3, stride=2, padding=(1, 0, 0, 1), ceil=True),
        lambda b, x: b.max_pool("p", x, kernel=(2, 3), dilation=2, stride=1),
        lambda b, x: b.average_pool("p", x, kernel=3, stride=2, padding=1),
        lambda b, x: b.average_pool("p", x, kernel=3, stride=2, padding=1, count_include_pad=True),
        lambda b, x: b.average_pool("p", x, kernel=2, ceil=True),
        lambda b, x: b.average_pool("p", x, kernel=2, dilation=2, stride=1),
        lambda b, x: b.global_average_pool("p", x),
        lambda b, x: b.concat("j", x, b.activation("t", x, "tanh"), x),
        lambda b, x: b.arithmetic("a", "mul", b.global_average_pool("g", x), x, activation="silu"),
        lambda b, x: b.arithmetic("a", "div", x, b.arithmetic("s", "sub", x, b.activation("e", x, "exp"))),
        lambda b, x: b.add(pointwise.pointwise("copy", {"x": x}, "x", lambda a: a, operator=Copy())),
        lambda b, x: b.add(pointwise.prelu("p", x, b.weight("slope", (1, 4, 1, 1), 4))),
        lambda b, x: b.add(
            with_activation(
                pointwise.affine("n", x, b.weight("s", (1, 4, 1, 1), 1), b.weight("t", (1, 4, 1, 1), 1)), "relu"
            )
        ),
        lambda b, x: b.add(
            with_activation(
                pointwise.arithmetic("a", "sub", b.weight("k", (1, 4, 1, 1), 1), x, constants=("a",)), "abs"
            )
        ),
    ],
)
def test_layers_round_trip(make: Callable[[Builder, Tensor], Tensor], tmp_path: Path) -> None:
    check_round_trip(one(make), tmp_path)


def of_layers(*made: Layer) -> Network:
    """A network of layers, with values for their weights."""
    tensors = list(dict.fromkeys(tensor for layer in made for tensor in layer.weights))
    weights = {tensor.name: values(tensor.concrete_shape, k) for k, tensor in enumerate(tensors)}
    own = {layer.output for layer in made}
    inputs = dict.fromkeys(tensor for layer in made for tensor in layer.inputs if tensor not in own)
    return Network("net", tuple(inputs), made, (made[-1].output,), weights)


NOT_OF_ONNXRUNTIME = {"lrn of an even size"}
NOT_OF_ONNX = {"space_to_depth, columns first"}


def test_what_onnx_does_not_have_is_refused() -> None:
    for name in NOT_OF_ONNX:
        with pytest.raises(UnsupportedOperator, match="has no SpaceToDepth of the mode CRD"):
            onnx_model(of_layers(LAYERS[name]()))


@pytest.mark.parametrize("name", sorted(set(LAYERS) - NOT_OF_ONNXRUNTIME - NOT_OF_ONNX))
def test_layers_of_any_rank_round_trip(name: str, tmp_path: Path) -> None:
    net = of_layers(LAYERS[name]())
    again = check_round_trip(net, tmp_path)
    kinds = {"variance": ["sub", "mul", "global_average_pool"], "split": ["slice"]}
    same = rewrite(net).network
    assert [layer.kind for layer in again.layers] == kinds.get(name, [layer.kind for layer in same.layers])


X = Tensor("x", (2, 4, 5, 6))
WHOLE: dict[str, Callable[[], Sequence[Layer]]] = {
    "softmax": lambda: reductions.softmax("s", X, (1,)),
    "log_softmax": lambda: reductions.log_softmax("s", X, (2, 3)),
    "log_sum_exp": lambda: reductions.log_sum_exp("s", X, (0, 3), False),
    "sum of all": lambda: [reductions.reduce("r", "sum", X, range(4), keepdims=False)],
    "product of vectors": lambda: [matrices.matmul("m", Tensor("x", (5,)), Tensor("y", (5,)))],
    "matmul": lambda: [matrices.matmul("m", X, Tensor("y", (6, 3)), [Tensor("y", (6, 3))])],
    "pad": lambda: [copies.pad("p", X, (0, 1, 2, 0), (0, 0, 1, 3), "constant", 2.5)],
    "reflect": lambda: [copies.pad("p", X, (0, 0, 2, 0), (0, 0, 1, 3), "reflect")],
    "conv_transpose": lambda: [
        with_activation(
            conv_transpose(
                "c",
                X,
                Tensor("w", (4, 3, 3, 2)),
                Tensor("b", (6,)),
                Window((3, 2), stride=(2, 3), padding=(1, 0, 2, 1)),
                output_padding=(1, 2),
                groups=2,
            ),
            "relu",
        )
    ],
    "nearest": lambda: [resize("r", X, (2, 4, 10, 9), how=Resampling("nearest", "asymmetric", "floor"))[0]],
    "nearest of scales": lambda: [resize("r", X, (2, 4, 7, 7), (1, 1, 1.5, 1.3))[0]],
}


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_several_layers_and_windows_round_trip(name: str, tmp_path: Path) -> None:
    net = of_layers(*WHOLE[name]())
    again = check_round_trip(net, tmp_path)
    assert len(again.layers) in (len(net.layers), len(net.layers) + 1)


def test_interpolation_round_trips(tmp_path: Path) -> None:
    for mode in ("linear", "cubic"):
        layer, weights = resize("r", X, (2, 4, 9, 4), how=Resampling(mode, "align_corners"))
        check_round_trip(Network("net", (X,), (layer,), (layer.output,), weights), tmp_path)


def test_instance_norm_round_trips(tmp_path: Path) -> None:
    column = (1, 4, 1, 1)
    norm = normalisation.instance_norm("i", X, Tensor("s", column), Tensor("t", column), epsilon=0.01)
    check_round_trip(of_layers(*norm), tmp_path)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"sqrt"}))
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "of a convolution"])
def test_activations_round_trip(name: str, alone: bool, tmp_path: Path) -> None:
    spec = (name, *NUMBERS.get(name, ()))
    if alone:
        check_round_trip(one(lambda b, x: b.activation("act", x, spec)), tmp_path)
    else:
        check_round_trip(one(lambda b, x: b.conv("c", x, 4, kernel=1, activation=spec)), tmp_path)


def test_square_roots_round_trip(tmp_path: Path) -> None:
    check_round_trip(one(lambda b, x: b.activation("root", b.activation("size", x, "abs"), "sqrt")), tmp_path)


SIZES: dict[str, dict[str, object]] = {
    "efficientnet_b0": {"size": 32, "width": 0.5},
    "fsrcnn_x2": {"rows": 8, "columns": 10},
    "espcn": {"rows": 8, "columns": 10, "scale": 3},
    "mobilenet_v1": {"size": 32, "width": 0.5},
    "mobilenet_v2": {"size": 32, "width": 0.5},
    "mobilenet_v3_large": {"size": 32, "width": 0.5},
    "unet": {"size": 16, "channels": 4},
    "asymmetric": {"size": 9, "channels": 4, "out": 6},
    "dilated": {"size": 16, "channels": 4},
    "dwsep": {"size": 16},
    "fsrcnn": {"rows": 8, "columns": 10},
    "mbv2_block": {"size": 8},
    "resnet_block": {"size": 8},
    "sr4": {"rows": 9, "columns": 12},
    "stem": {"size": 23, "channels": 4},
    "stencil3": {"size": 20},
    "two_convs": {"size": 12},
    "vgg_pair": {"size": 8},
}


@pytest.mark.parametrize("kernel", sorted({path.stem for path in (ROOT / "kernels").glob("*.py")} - LOOPS))
def test_kernels_keep_their_layers(kernel: str, tmp_path: Path) -> None:
    parameters = {key: str(value) for key, value in SIZES[kernel].items()}
    net = load_workload(str(ROOT / "kernels" / f"{kernel}.py"), parameters=parameters)
    again = check_round_trip(net, tmp_path)
    same = rewrite(net).network
    assert [(layer.name, layer.kind) for layer in again.layers] == [(layer.name, layer.kind) for layer in same.layers]


@pytest.mark.parametrize("up", ["nearest", "linear"])
def test_images_may_be_doubled_in_other_ways(up: str, tmp_path: Path) -> None:
    parameters = {"size": "16", "channels": "4", "up": up}
    check_round_trip(load_workload(str(ROOT / "kernels" / "unet.py"), parameters=parameters), tmp_path)


@pytest.mark.parametrize(
    ("kernel", "parameters"),
    [
        ("mobilenet_v2", {}),
        ("efficientnet_b0", {}),
        ("unet", {}),
        ("unet", {"up": "linear", "size": "128"}),
        ("fsrcnn_x2", {"rows": "135", "columns": "240"}),
    ],
)
def test_whole_networks_agree_with_onnxruntime(kernel: str, parameters: dict[str, str], tmp_path: Path) -> None:
    net = load_workload(str(ROOT / "kernels" / f"{kernel}.py"), parameters=parameters)
    check_round_trip(net, tmp_path)


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    build = Builder("net")
    a, b = build.input("a", (1, 2, 5, 5)), build.input("b", (1, 2, 5, 5))
    total = build.arithmetic("total", "add", a, b)
    other = build.conv("other", total, 3, kernel=3)
    check_round_trip(build.network(total, other), tmp_path)
    model = onnx_model(build.network(other, total))
    assert [value.name for value in model.graph.input] == ["a", "b"]
    assert [value.name for value in model.graph.output] == ["other_out", "total_out"]


def test_a_layer_of_isl_text_is_refused() -> None:
    build = Builder("net")
    x = build.input("x", (1, 1, 4, 4))
    point = "S[n, c, h, w]"
    turned = statement_layer(
        "turn",
        domain=f"{{ {point} : n = 0 and c = 0 and 0 <= h < 4 and 0 <= w < 4 }}",
        output=Tensor("turn_out", (1, 1, 4, 4)),
        reads={"x": (x, f"{{ {point} -> x[n, c, w, h] }}")},
        expression="x",
    )
    with pytest.raises(UnsupportedOperator, match="layer 'turn': no ONNX operator computes a layer of kind"):
        onnx_model(build.network(build.add(turned)))


def test_pointwise_text_is_refused_rather_than_guessed() -> None:
    with pytest.raises(UnsupportedOperator, match="no ONNX operator"):
        onnx_model(one(lambda b, x: b.add(pointwise.pointwise("twice", {"x": x}, "x + x", lambda a: a + a))))


def test_symbolic_sizes_are_refused() -> None:
    build = Builder("net")
    net = build.network(build.conv("c", build.input("x", (1, 1, "H", "W")), 1, kernel=3))
    with pytest.raises(InvalidInput, match="expected concrete sizes"):
        onnx_model(net)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    net = one(lambda b, x: b.global_average_pool("p", x))
    with pytest.raises(InvalidInput, match=r"no/net\.onnx': expected a folder that can be written, got: No such file"):
        save_onnx(net, tmp_path / "no" / "net.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InvalidInput, match=r"folder\.onnx': expected a file, got a folder"):
        save_onnx(net, tmp_path / "folder.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


def test_weights_are_those_of_the_network() -> None:
    weight = values((2, 4, 1, 1), 8)
    model = onnx_model(one(lambda b, x: b.conv("c", x, 2, kernel=1, weight=weight)))
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert (stored["c_weight"] == weight).all()

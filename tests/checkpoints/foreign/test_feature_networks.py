from __future__ import annotations

import io
import zipfile

import pytest
import torch
from tests.checkpoints.refusals import says
from tests.networks.seeded_weights import fill

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.foreign.feature_networks import efficientnet_lite0_from_file, metric_network_from_file
from labels4free.checkpoints.native import read_tensors
from labels4free.data.images.dataset import open_images
from labels4free.errors import ModelZooError
from labels4free.networks.efficientnet_lite import EfficientNetLite0
from labels4free.networks.inception import InceptionV3
from labels4free.networks.lpips import Lpips

# Logits 0 to 5 that the published code and weights give for two images of seeded noise.
PUBLISHED = [
    [-2.52597, 0.30421, 1.21256, 0.20965, 1.3155, -0.96844],
    [-2.813, 0.21076, 1.21486, 0.20836, 1.03094, -1.12235],
]


def file_of(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def state():
    return dict(fill(EfficientNetLite0()).state_dict())


def test_every_tensor_arrives(state):
    network = efficientnet_lite0_from_file(file_of(state))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_a_tensor_missing_left_over_or_misshapen_is_named(state):
    name = "_blocks.3._project_conv.weight"
    with says("The file of EfficientNet-Lite0 lacks the tensor", name):
        efficientnet_lite0_from_file(file_of({k: v for k, v in state.items() if k != name}))
    with says("has 1 tensors that no EfficientNet-Lite0 has: extra"):
        efficientnet_lite0_from_file(file_of(state | {"extra": torch.zeros(1)}))
    with says(name, "has shape [40, 144, 1], expected [40, 144, 1, 1]"):
        efficientnet_lite0_from_file(file_of(state | {name: state[name][..., 0]}))
    with says(name, "not finite"):
        efficientnet_lite0_from_file(file_of(state | {name: state[name] * torch.nan}))


def test_a_program_is_refused():
    class Evil:
        def __reduce__(self):
            return (print, ("harm",))

    with says("The file of EfficientNet-Lite0", "print"):
        efficientnet_lite0_from_file(file_of({"a": Evil()}))
    with says("The file of EfficientNet-Lite0", "is not a PyTorch checkpoint"):
        efficientnet_lite0_from_file(b"no file")


@pytest.fixture
def published():
    """EfficientNet-Lite0 with the published weights."""
    try:
        if not model_zoo.is_fetched("efficientnet-lite0"):
            pytest.skip("needs `labels4free models fetch efficientnet-lite0`")
    except ModelZooError as error:
        pytest.skip(str(error))
    network = EfficientNetLite0().eval().requires_grad_(False)
    network.load_state_dict(read_tensors(model_zoo.model_path("efficientnet-lite0"), "feature_network"))
    return network


def test_the_published_weights_give_the_published_numbers(published):
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(7)) * 2 - 1
    torch.testing.assert_close(published(x)[:, :6], torch.tensor(PUBLISHED), atol=1e-4, rtol=0)


def test_a_photo_of_a_cat_is_a_cat(published, shared):
    folder = shared / "data" / "afhq_cat_128"
    if not folder.is_dir():
        pytest.skip("needs the data folder beside the repository")
    photos = open_images(folder, 224).batch(range(5))
    assert all(281 <= label <= 285 for label in published(photos).argmax(dim=1).tolist())  # tabby to Egyptian cat


# Inception


@pytest.fixture(scope="module")
def inception():
    return dict(fill(InceptionV3()).state_dict())


@pytest.mark.parametrize("counters", [True, False], ids=["with counters", "of before them"])
def test_inception(inception, counters, tmp_path):
    state = {k: v for k, v in inception.items() if counters or not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "i.pth")
    network = metric_network_from_file(tmp_path / "i.pth")
    assert not network.training
    assert all(torch.equal(value, inception[name]) for name, value in network.state_dict().items())


def test_other_networks_are_refused(inception, state, tmp_path):
    path = tmp_path / "i.pth"
    torch.save(state, path)
    with says("i.pth lacks the tensor Conv2d_1a_3x3.conv.weight"):
        metric_network_from_file(path)
    torch.save(inception | {"AuxLogits.fc.bias": torch.zeros(1000)}, path)  # as torchvision's
    with says("i.pth has 1 tensors that no Inception-v3 of FID has: AuxLogits.fc.bias"):
        metric_network_from_file(path)
    torch.save(inception | {"fc.bias": torch.zeros(1000)}, path)
    with says("i.pth: fc.bias has shape [1000], expected [1008]"):
        metric_network_from_file(path)


def test_lpips(tmp_path):
    network, path = fill(Lpips()), tmp_path / "lpips.pth"
    ours = network.state_dict()
    heads = {f"lin{k}.model.1.weight": ours[f"lin{k}.weight"] for k in range(5)}
    again = {f"lins.{k}.model.1.weight": ours[f"lin{k}.weight"] for k in range(5)}
    maps = {name: value for name, value in ours.items() if name.startswith("net.")}
    scaling = {f"scaling_layer.{name}": torch.zeros(1, 3, 1, 1) for name in ("shift", "scale")}
    torch.save(maps | heads | again | scaling, path)
    found = metric_network_from_file(path).state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in found.items())
    torch.save(heads, path)  # as the package ships them
    with says("lpips.pth lacks the tensor net.slice1.0.weight"):
        metric_network_from_file(path)


def test_a_torchscript_program_is_not_run(tmp_path):
    path = tmp_path / "inception-2015-12-05.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"inception/{name}", b"\x80\x02N.")
    with says("inception-2015-12-05.pt is a TorchScript program, which is not run here; expected a state dict"):
        metric_network_from_file(path)
    with says("There is no checkpoint at"):
        metric_network_from_file(tmp_path / "gone.pth")

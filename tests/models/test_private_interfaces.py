"""Private names of torch and transformers: each does what is asked of it, and none is used elsewhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from tiny import tiny_model

import eto
from eto.models import private_interfaces as private

ROOT = Path(eto.__file__).parent
LIBRARIES = ("torch", "transformers", "peft", "safetensors", "tokenizers")


def test_gradient_through_softmax():
    scores = torch.randn(3, 5, 7, requires_grad=True)
    weights, given = scores.softmax(-1), torch.randn(3, 5, 7)
    weights.backward(given)
    torch.testing.assert_close(private.softmax_backward(given, weights.detach()), scores.grad)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("biased", [True, False])
def test_packed_products(biased):
    layer, inputs = torch.nn.Linear(48, 80, bias=biased), torch.randn(2, 6, 48)
    with torch.no_grad():
        packed = private.packed_weight(layer.weight.detach(), 16)
        torch.testing.assert_close(private.packed_linear(inputs, packed, layer.bias), layer(inputs))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_storages(device):
    tensor = torch.empty(4, 4, device=device)
    assert private.storage_id(tensor) == private.storage_id(tensor[1:])
    assert private.storage_id(tensor) != private.storage_id(torch.empty(4, 4, device=device))


def test_types_of_this_cpu():
    """As Linux says, where it runs on a processor that names these features so."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    if "avx2" not in flags:
        pytest.skip("no x86 Linux")
    assert private.cpu_has_bfloat16() == any(name in flags for name in ("avx512_bf16", "amx_tile"))
    assert private.cpu_has_avx512() == ("avx512f" in flags)


def test_architectures():
    assert not private.is_recurrent(tiny_model(64))
    assert private.attention_can_be_exchanged(tiny_model(64))


def private_uses(path: Path) -> list[str]:
    """Private attributes of names that were imported from a library, and private names imported from one."""
    tree, names, uses = ast.parse(path.read_text(encoding="utf-8")), set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            ours = [a for a in node.names if a.name.split(".")[0] in LIBRARIES]
            names |= {(a.asname or a.name).split(".")[0] for a in ours}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            names |= {a.asname or a.name for a in node.names}
            parts = [*(node.module or "").split("."), *(a.name for a in node.names)]
            uses += [part for part in parts if part.startswith("_")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root = node.value
            while isinstance(root, ast.Attribute | ast.Call | ast.Subscript):
                root = root.func if isinstance(root, ast.Call) else root.value
            if isinstance(root, ast.Name) and root.id in names:
                uses.append(node.attr)
    return uses


OBJECTS = ("_is_stateful", "_supports_", "_cdata", "_is_avx512", "_is_amx", "_attn_implementation")
"""Private attributes of the libraries' objects, which imports do not show."""


def test_no_other_module_uses_private_names():
    uses = {}
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        seen = private_uses(path) + [name for name in OBJECTS if f".{name}" in text or f'"{name}' in text]
        if seen and path.stem != "private_interfaces":
            uses[str(path.relative_to(ROOT))] = seen
    assert uses == {}


def test_the_scan_sees_private_names(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("import torch\nfrom torch._C import x\ntorch._foo(1)\ntorch.ops.a._b.c\nself._own\n")
    assert private_uses(file) == ["_C", "_foo", "_b"]

"""Plain distillation in PyTorch, timed in a process of its own: the worker of `peers.py`.

It reads lines of JSON, `{"row": name, "steps": number}`, and answers each with seconds.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

TEMPERATURE, HARD_WEIGHT, KD_WEIGHT = 4.0, 0.1, 0.9
BATCHES = 8
#: `{name: (memory format, whether to compile)}`
ROWS = {
    "PyTorch": (torch.contiguous_format, False),
    "PyTorch, channels_last": (torch.channels_last, False),
    "PyTorch, channels_last, compiled": (torch.channels_last, True),
}


class Unit(nn.Module):
    """A unit of a wide residual network, as in `l2rkd_tf.models.wide_resnet`."""

    def __init__(self, before, filters, stride):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(filters)
        self.conv1 = nn.Conv2d(before, filters, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.shortcut = None
        if before != filters:
            self.shortcut = nn.Conv2d(before, filters, 1, stride, bias=False)

    def forward(self, x):
        """Adds two convolutions to the input."""
        active = functional.relu(self.norm1(x), inplace=True)
        y = functional.relu(self.norm2(self.conv1(active)), inplace=True)
        return self.conv2(y) + (x if self.shortcut is None else self.shortcut(active))


def wide_resnet(name, num_classes=100):
    """A network of a name such as `wrn_16_2`."""
    depth, width = map(int, name.split("_")[1:])
    parts, before = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)], 16
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        for number in range((depth - 4) // 6):
            parts.append(Unit(before, filters * width, stride if number == 0 else 1))
            before = filters * width
    parts += [nn.BatchNorm2d(before), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(before, num_classes))


class Row:
    """Training steps of a pair.

    Args:
        teacher: Name of the teacher.
        student: Name of the student.
        batch_size: Images in a batch.
        memory_format: Of images and weights.
        compiled: Whether to compile both networks.
    """

    def __init__(self, teacher, student, batch_size, memory_format, compiled):
        self._teacher = wide_resnet(teacher).to(memory_format=memory_format).eval()
        self._student = wide_resnet(student).to(memory_format=memory_format).train()
        self._optimizer = torch.optim.SGD(self._student.parameters(), 0.01, momentum=0.9)
        rng = np.random.default_rng(0)
        self._data = [
            (
                torch.from_numpy(rng.uniform(size=(batch_size, 3, 32, 32)).astype("float32")).to(
                    memory_format=memory_format
                ),
                torch.from_numpy(rng.integers(0, 100, batch_size)),
            )
            for _ in range(BATCHES)
        ]
        self._number = 0
        if compiled:
            self._teacher, self._student = map(torch.compile, (self._teacher, self._student))

    def _step(self, x, y):
        with torch.inference_mode():
            targets = functional.log_softmax(self._teacher(x) / TEMPERATURE, dim=1)
        logits = self._student(x)
        hard = functional.cross_entropy(logits, y)
        outputs = functional.log_softmax(logits / TEMPERATURE, dim=1)
        soft = functional.kl_div(outputs, targets.clone(), reduction="batchmean", log_target=True)
        loss = HARD_WEIGHT * hard + KD_WEIGHT * TEMPERATURE**2 * soft
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss

    def time(self, steps):
        """Seconds of so many steps."""
        start = time.perf_counter()
        for _ in range(steps):
            self._number += 1
            loss = self._step(*self._data[self._number % BATCHES])
        loss.item()
        return time.perf_counter() - start


def main():
    """Answers requests until the input ends."""
    teacher, student, batch_size = sys.argv[1:]
    torch.manual_seed(0)
    rows = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request["row"]
        try:
            if name not in rows:
                rows[name] = Row(teacher, student, int(batch_size), *ROWS[name])
            answer = {"seconds": rows[name].time(request["steps"])}
        except Exception as error:  # a compiler may be absent: told to the one who asked
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        answer |= {"version": torch.__version__, "threads": torch.get_num_threads()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

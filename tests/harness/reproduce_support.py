"""A recipe of two small tables, and its plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.reproduce.plan import Options, Plan, plan
from sia_gen.core.data.dataset import open_dataset

RECIPE = """\
reproduce:
  paper: realnet
  metrics: {image_auroc: image_auroc_max, pro: pro_0.3}
  sources: {sdas: [model]}
  budgets:
    small:
      seeds: [0]
      recipe: none
      numbers: {steps: 3, per_category: 4}
      shipped_models: {}
      train_model: sia-gen train --data {data} --out {folder}
      synthesise: >-
        sia-gen run --data {data} --categories {category} --model {model} --s-range {s}
        --out {folder}
      train: >-
        detector train --category {category} {shards} --steps {steps} {arguments} --out {folder}
      score: detector score --run {folder} --category {category}
      measure: harness evaluate {scores} --out {results} --json
  tables:
    5a:
      title: Two parts
      rows:
        - name: RDR without RRS
          method: realnet+sdas
          setting: "reduction=rdr;rrs=off"
          arguments: --set rrs=off
        - {name: AFS with RRS, method: realnet+sdas, setting: "reduction=afs;rrs=on"}
    "1":
      title: By category
      form: categories
      rows:
        - {name: SDAS, method: realnet+sdas}
        - {name: noise, method: realnet+noise, source: noise}
"""


def asked(room: Path, data: Path, table: str = "5a", **more: Any) -> Plan:
    options = Options(table=f"{room}/own.yaml:{table}", data=str(data), out=room / "out", **more)
    return plan(options, open_dataset(data))

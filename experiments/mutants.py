"""dev"""
from __future__ import annotations
import sys, time
from pathlib import Path
from experiments.mutant_operators import mutants
from experiments.mutant_runner import *
ROOT=Path(__file__).resolve().parent.parent
FILES=tuple(sorted(str(p.relative_to(ROOT)) for f in ("masks","moments") for p in (ROOT/"msda_theory"/f).glob("*.py")))+("msda_theory/losses.py","msda_theory/expansion.py")
NAMES="losses expansion objective order_ladder regressions rng gradient_products verify taylor calibration mix_transform compare first_layer linear_models distance proportions".split()
TESTS=tuple(sorted(str(p.relative_to(ROOT)) for f in ("masks","moments","properties") for p in (ROOT/"tests"/f).glob("test_*.py")))+tuple(f"tests/test_{n}.py" for n in NAMES)
def project(): return Project(ROOT, FILES, TESTS, "msda_theory,beartype.beartype", 60.0, 6.0, ROOT/"results"/"mutants")
if __name__=="__main__":
    p=project(); s=Server(ROOT); t=measured(p,s); s.close()
    print(len(t), "tests", sum(x.seconds for x in t))
    if len(sys.argv)>1:
        files=[f for f in FILES if any(a in f for a in sys.argv[2:])]
        ms=[m for f in files for m in mutants(f,(ROOT/f).read_text())]
        print(len(ms)); start=time.time()
        a=search(p,ms,t,int(sys.argv[1]))
        from collections import Counter
        for f in files: print(f, Counter(a[m.key].outcome for m in ms if m.file==f))
        print(time.time()-start)
        for m in ms:
            if a[m.key].outcome=="survived": print(m.file,m.lines,m.function,"|",m.before,"->",m.after)

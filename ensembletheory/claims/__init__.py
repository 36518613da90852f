"""Claims about ensembles that a computer checks: each has a margin that is >= 0 wherever it holds.

`get(id)` and `ids()` give the claims of this package, `check` says whether a claim still stands, `falsify` searches for a counter-example. A claim of one's own is a
function under the `claim` decorator, over a `Domain` of named parts.
"""

from ensembletheory.claims.checking import CheckResult as CheckResult
from ensembletheory.claims.checking import check as check
from ensembletheory.claims.claim import Claim as Claim
from ensembletheory.claims.claim import ClaimError as ClaimError
from ensembletheory.claims.claim import Mutant as Mutant
from ensembletheory.claims.claim import claim as claim
from ensembletheory.claims.domain import Domain as Domain
from ensembletheory.claims.domain import NoRational as NoRational
from ensembletheory.claims.falsifying import Falsification as Falsification
from ensembletheory.claims.falsifying import falsify as falsify
from ensembletheory.claims.parts import orthogonal as orthogonal
from ensembletheory.claims.parts import positive as positive
from ensembletheory.claims.parts import real as real
from ensembletheory.claims.parts import simplex as simplex
from ensembletheory.claims.parts import spd as spd
from ensembletheory.claims.registry import get as get
from ensembletheory.claims.registry import ids as ids

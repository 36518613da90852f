"""Which parameters give the same law: groups, quotient metrics, and a check of any law against any group."""

from ensembletheory.identifiability.actions import Action as Action
from ensembletheory.identifiability.blindness import fisher_bound as fisher_bound
from ensembletheory.identifiability.blindness import integrated_fisher as integrated_fisher
from ensembletheory.identifiability.blindness import noised_fisher as noised_fisher
from ensembletheory.identifiability.checking import Report as Report
from ensembletheory.identifiability.checking import check as check
from ensembletheory.identifiability.groups import Group as Group
from ensembletheory.identifiability.groups import Monomial as Monomial
from ensembletheory.identifiability.groups import Orthogonal as Orthogonal
from ensembletheory.identifiability.groups import Permutations as Permutations
from ensembletheory.identifiability.groups import Scalings as Scalings
from ensembletheory.identifiability.groups import SignedPermutations as SignedPermutations
from ensembletheory.identifiability.groups import Signs as Signs
from ensembletheory.identifiability.groups import Unitary as Unitary
from ensembletheory.identifiability.ivae import mcc as mcc
from ensembletheory.identifiability.ivae import mcc_null as mcc_null
from ensembletheory.identifiability.ivae import mean_null_correlation as mean_null_correlation
from ensembletheory.identifiability.ivae import recover_mixing as recover_mixing
from ensembletheory.identifiability.mixtures import canonical_mixture as canonical_mixture
from ensembletheory.identifiability.mixtures import matched_w2_squared as matched_w2_squared
from ensembletheory.identifiability.models import MODELS as MODELS
from ensembletheory.identifiability.models import Model as Model
from ensembletheory.identifiability.models import Setting as Setting
from ensembletheory.identifiability.models import ledermann as ledermann
from ensembletheory.identifiability.search import Pair as Pair

from tests.material.zoo import all_shared_models_stay as all_shared_models_stay
from tests.material.zoo import in_double as in_double
from tests.material.zoo import one_thread as one_thread
from tests.material.zoo import shared_models_stay as shared_models_stay

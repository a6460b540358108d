from tests.material.zoo import in_double as in_double
from tests.material.zoo import one_thread as one_thread

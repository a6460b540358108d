from tests.calig.zoo import in_double as in_double
from tests.calig.zoo import one_thread as one_thread

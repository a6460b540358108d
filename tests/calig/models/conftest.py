from tests.calig.zoo import one_thread as one_thread

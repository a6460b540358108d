from tests.material.zoo import one_thread as one_thread

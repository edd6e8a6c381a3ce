from every_world import tests_of

test_world, test_mutant_is_caught, test_nothing_is_missing = tests_of("dp-continual-release")

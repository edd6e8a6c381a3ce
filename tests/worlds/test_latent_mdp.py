from every_world import judged

test_world, test_mutant_is_caught, test_nothing_is_missing = judged("latent-mdp")

import glue as glue  # puts images/trainer on the path

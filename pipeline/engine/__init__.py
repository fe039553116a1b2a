"""What makes stages run: tasks and commits, the meshes they run on, and the workers that own them."""
